for (const input of document.querySelectorAll(".slide input")) {
  const show = () => input.parentElement.style.setProperty("--cut", input.value + "%");
  input.addEventListener("input", show);
  show();
}
