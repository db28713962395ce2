// The 3-D view of a report: draws the frames that the page contains. It needs WebGL and DecompressionStream. The still
// picture stays until the first frame is drawn, and for good if that fails.
(() => {
  "use strict";
  const view = document.getElementById("view");
  const find = (name) => view.querySelector("." + name);
  const inflate = async (text) => {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"))).arrayBuffer();
  };
  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();

  async function unpack(scene) {
    const steps = new Int16Array(await inflate(scene.positions));
    const numbers = 3 * scene.symbols.length;
    for (let place = numbers; place < steps.length; place += 1) steps[place] += steps[place - numbers];
    return steps;
  }

  function build(viewer, scene) {
    const atoms = scene.symbols.map((symbol, index) => ({
      elem: symbol, serial: index, x: 0, y: 0, z: 0, bonds: [], bondOrder: [],
    }));
    for (const [i, j] of scene.bonds) {
      atoms[i].bonds.push(j); atoms[i].bondOrder.push(1);
      atoms[j].bonds.push(i); atoms[j].bondOrder.push(1);
    }
    viewer.removeAllModels();
    const model = viewer.addModel();
    model.addAtoms(atoms);
    viewer.removeAllShapes();
    for (const [[x, y, z], [u, v, w]] of scene.cell) {
      viewer.addLine({ start: { x, y, z }, end: { x: u, y: v, z: w }, color: color("muted") });
    }
    return model;
  }

  async function start() {
    const probe = document.createElement("canvas");
    if (!probe.getContext("webgl2") && !probe.getContext("webgl")) throw new Error("no WebGL");
    const scenes = JSON.parse(document.getElementById("scenes").textContent);
    const script = document.createElement("script");
    script.textContent = new TextDecoder().decode(await inflate(document.getElementById("library").textContent));
    document.head.append(script);
    const stage = find("stage"), slider = find("slider"), button = find("play"), label = find("time");
    const choice = find("choice");
    view.classList.add("loading");
    const viewer = $3Dmol.createViewer(stage, { backgroundColor: color("raised"), antialias: true });
    if (!viewer) throw new Error("3Dmol.js made no view");
    const style = { stick: { radius: 0.11, colorscheme: "Jmol" }, sphere: { scale: 0.24, colorscheme: "Jmol" } };
    let scene, steps, model, timer = null;

    function show(frame) {
      const numbers = 3 * scene.symbols.length;
      model.selectedAtoms({}).forEach((atom, index) => {
        const place = frame * numbers + 3 * index;
        atom.x = steps[place] / 100; atom.y = steps[place + 1] / 100; atom.z = steps[place + 2] / 100;
      });
      model.setStyle({}, style);
      viewer.render();
      const broken = scene.end !== null && scene.times[frame] >= scene.end;
      slider.value = frame;
      label.textContent = scene.times[frame].toFixed(scene.digits) + "\u00a0ps" + (broken ? ", no longer physical" : "");
      label.classList.toggle("alert", broken);
      slider.setAttribute("aria-valuetext", label.textContent);
    }

    function play(on) {
      clearInterval(timer);
      timer = on ? setInterval(() => show((Number(slider.value) + 1) % scene.times.length), 60) : null;
      button.textContent = on ? "Pause" : "Play";
    }

    async function choose(index) {
      play(false);
      scene = scenes[index];
      steps = await unpack(scene);
      model = build(viewer, scene);
      slider.max = scene.times.length - 1;
      button.disabled = slider.disabled = scene.times.length < 2;
      show(0);
      viewer.zoomTo();
      viewer.zoom((scene.cell.length ? 1.4 : 1.15) * Math.min(1, stage.clientWidth / stage.clientHeight / 1.2));
      viewer.render();
    }

    button.addEventListener("click", () => play(timer === null));
    slider.addEventListener("input", () => { play(false); show(Number(slider.value)); });
    if (choice) choice.addEventListener("change", () => choose(choice.selectedIndex));
    // The wheel scrolls the page; with Ctrl it zooms.
    stage.addEventListener("wheel", (event) => { if (!event.ctrlKey) event.stopPropagation(); }, true);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
      viewer.setBackgroundColor(color("raised"));
      viewer.render();
    });
    addEventListener("resize", () => viewer.resize());
    document.addEventListener("visibilitychange", () => { if (document.hidden) play(false); });
    await choose(0);
    view.classList.replace("loading", "live");
    view.dataset.state = "ready";
  }

  start().catch((error) => {
    view.classList.remove("loading", "live");
    view.dataset.state = "failed";
    find("failed").hidden = false;
    find("failed").title = String(error);
  });
})();
