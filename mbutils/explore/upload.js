// A button that hands a file to Python in parts: a Jupyter server closes the connection at a message of 10 MB.
const PART = 4 * 2 ** 20; // bytes

function render({ model, el }) {
  const button = document.createElement("button");
  const input = document.createElement("input");
  button.className = "jupyter-button";
  button.textContent = "Upload";
  Object.assign(input, { type: "file", accept: ".jpg,.jpeg,.png,.bmp,.webp", hidden: true });

  input.onchange = async () => {
    const [file] = input.files;
    button.disabled = true;
    for (let start = 0; start === 0 || start < file.size; start += PART) {
      const part = await file.slice(start, start + PART).arrayBuffer();
      model.send({ name: file.name, first: start === 0, last: start + PART >= file.size }, undefined, [part]);
    }
    button.disabled = false;
    input.value = ""; // so that the same file can be chosen again
  };
  button.onclick = () => input.click();
  el.append(button, input);
}

export default { render };
