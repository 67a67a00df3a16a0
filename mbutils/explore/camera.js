// The camera of the browser: a live picture, and a button that hands a frame of it to Python as a PNG file.
function render({ model, el }) {
  const video = document.createElement("video");
  const button = document.createElement("button");
  const note = document.createElement("span");
  const live = document.createElement("div");
  let stream = null;
  Object.assign(video, { muted: true, playsInline: true, hidden: true });
  video.style.cssText = "max-width: 320px; margin-bottom: 4px";
  button.className = "jupyter-button";
  button.textContent = "Camera";
  note.style.marginLeft = "8px";

  async function start() {
    if (!navigator.mediaDevices) {
      note.textContent = "The browser gives a camera only to pages from this computer (localhost) or over https.";
      return;
    }
    try {
      stream = await navigator.mediaDevices.getUserMedia({ video: true });
      video.srcObject = stream;
      await video.play();
      video.hidden = false;
      button.textContent = "Take a picture";
      note.textContent = "";
    } catch (error) {
      note.textContent = `No camera: ${error.message}`;
    }
  }

  function take() {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
    canvas.getContext("2d").drawImage(video, 0, 0);
    canvas.toBlob(async (blob) => {
      model.set("frame", new DataView(await blob.arrayBuffer()));
      model.save_changes();
    }, "image/png");
  }

  button.onclick = () => (stream ? take() : start());
  live.append(video);
  el.append(live, button, note);
  return () => stream?.getTracks().forEach((track) => track.stop());
}

export default { render };
