/* Search in a site that is opened from a disk: a browser starts no worker for such a page. The search's script then
   runs in a hidden frame of the page, which gets the worker's messages and answers them. */
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    #frame = document.createElement("iframe");
    #early = []; // messages from before the script was there; null since then

    constructor(url) {
      super();
      this.#frame.hidden = true;
      this.#frame.srcdoc = "<!doctype html>";
      this.#frame.addEventListener("load", () => this.#begin(url), {once: true});
      document.body.append(this.#frame);
    }

    async #begin(url) {
      const inside = this.#frame.contentWindow;
      inside.postMessage = data => this.dispatchEvent(new MessageEvent("message", {data}));
      inside.importScripts = async (...urls) => { for (const each of urls) await this.#load(each); };
      await this.#load(url);
      const messages = this.#early;
      this.#early = null;
      messages.forEach(data => this.postMessage(data));
    }

    #load(url) {
      return new Promise((loaded, failed) => {
        const script = this.#frame.contentDocument.createElement("script");
        Object.assign(script, {src: url, onload: loaded, onerror: failed});
        this.#frame.contentDocument.head.append(script);
      });
    }

    postMessage(data) {
      if (this.#early) this.#early.push(data);
      else this.#frame.contentWindow.dispatchEvent(new MessageEvent("message", {data}));
    }

    terminate() {
      this.#frame.remove();
    }
  };
}
