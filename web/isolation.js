// Loaded first by every page. Where the host did not isolate the page, registers the service worker that does, and
// loads the page again once under its control. Where that is not possible either, the page goes on with one thread.

(() => {
  const RELOADED = "nnjit-isolation-reloaded";
  if (self.crossOriginIsolated) {
    sessionStorage.removeItem(RELOADED);
    return;
  }
  const script = /** @type {HTMLScriptElement} */ (document.currentScript);
  if (!("serviceWorker" in navigator)) return; // not a secure context
  const reloadOnce = () => {
    if (sessionStorage.getItem(RELOADED)) return; // the worker is there and the page is still not isolated
    sessionStorage.setItem(RELOADED, "1");
    location.reload();
  };
  navigator.serviceWorker.register(new URL("../sw.js", script.src)).then(
    () => navigator.serviceWorker.ready.then(reloadOnce),
    (problem) => console.warn(`one thread only: the isolating service worker was refused: ${problem}`),
  );
})();
