// Play: a slider that advances by itself, from its start if it stands at its end, until its end.

const PLAYING_TIME = 8000; // milliseconds from start to end, if the steps are neither very fast nor very slow
const FASTEST = 60;
const SLOWEST = 1000;

let playing = null; // { slider, timer } while a slider advances

function togglePlay(button) {
  const slider = byId(button.dataset.slider);
  const isSame = playing?.slider === slider;
  stopPlaying();
  if (isSame) return;
  if (slider.value === slider.max) setSlider(slider, 0);
  playing = { slider };
  waitForNext();
  updatePlayButtons();
}

function stopPlaying() {
  clearTimeout(playing?.timer);
  playing = null;
  updatePlayButtons();
}

function advance() {
  const { slider } = playing;
  setSlider(slider, Number(slider.value) + 1);
  if (slider.value === slider.max) stopPlaying();
  else requestAnimationFrame(() => playing?.slider === slider && waitForNext()); // after the drawing
}

function waitForNext() {
  const { slider } = playing;
  playing.timer = setTimeout(advance, Math.min(SLOWEST, Math.max(FASTEST, PLAYING_TIME / slider.max)));
}

function setSlider(slider, value) {
  slider.value = value;
  slider.dispatchEvent(new Event("input"));
}

function updatePlayButtons() {
  for (const button of document.querySelectorAll(".play")) {
    button.textContent = playing?.slider.id === button.dataset.slider ? "Pause" : "Play";
  }
}
