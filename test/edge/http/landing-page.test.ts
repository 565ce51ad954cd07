/** The page at `/`: what a browser shows, and that its commands work when pasted. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { runInNewContext } from "node:vm";
import { landingPage, type PageOptions } from "../../../src/edge/http/landing-page.ts";
import { folder, runHere, start } from "../../cli/support.ts";

const MAIN = fileURLToPath(new URL("../../../src/cli/main.ts", import.meta.url));

const OPTIONS: PageOptions = {
  url: "http://edge.example.com",
  name: "edge.example.com",
  isOwnHost: true,
  entry: "anybody",
};

/** The text of the page's code boxes. */
function boxes(html: string): string {
  const all = [...html.matchAll(/<pre>([\s\S]*?)<\/pre>/g)].map(([, text = ""]) => text).join("\n");
  return all.replace(/<[^>]*>/g, "").replaceAll("&gt;", ">");
}

/** The page as shown by a browser that requested a URL. */
function inBrowser(html: string, asked: string): string {
  const { origin, pathname, hostname } = new URL(asked);
  const texts = new Map<string, { textContent: string }>();
  const at = (selector: string) => {
    const found = texts.get(selector) ?? { textContent: "unchanged" };
    texts.set(selector, found);
    return [found];
  };
  const [, script = ""] = /<script>([\s\S]*)<\/script>/.exec(html) ?? [];
  runInNewContext(script, { location: { origin, pathname, hostname }, document: { querySelectorAll: at } });
  return boxes(html).replace(/--edge \S+( --relay \S+)?/g, (shown, relay = "") => {
    const [url] = at(".url");
    const [name] = at(".relay");
    if (url?.textContent === "unchanged") return shown;
    return `--edge ${url?.textContent}${name?.textContent === "unchanged" ? relay : name?.textContent}`;
  });
}

test("the page shows commands with the URL and name of this edge", () => {
  assert.match(
    boxes(landingPage(OPTIONS)),
    /send --edge http:\/\/edge\.example\.com --as alice\/pc bob\/laptop - --name/,
  );
  const proxied = landingPage({ ...OPTIONS, url: "http://www.example.com", isOwnHost: false });
  assert.match(boxes(proxied), /recv --edge http:\/\/www\.example\.com --relay edge\.example\.com --as bob\/laptop$/m);
});

test("the page shows the URL requested by the browser, even behind a proxy that changes it", () => {
  const own = inBrowser(landingPage(OPTIONS), "https://edge.example.com/groove/");
  assert.match(own, /recv --edge https:\/\/edge\.example\.com\/groove --as bob/);
  const other = inBrowser(landingPage({ ...OPTIONS, url: "http://127.0.0.1:8787" }), "https://www.example.com/");
  assert.match(other, /recv --edge https:\/\/www\.example\.com --relay edge\.example\.com --as bob/);
  assert.equal(inBrowser(landingPage(OPTIONS), "http://edge.example.com/"), boxes(landingPage(OPTIONS)));
  const odd = inBrowser(landingPage(OPTIONS), "https://edge.example.com/$(id)/");
  assert.equal(odd, boxes(landingPage(OPTIONS)), "no command that a shell would run is shown");
});

test("the page shows no command for a host that a shell or browser could misread", () => {
  for (const url of ["http://a$(id).example.com", "http://a`id`.example.com", "http://a&b;c.example.com"]) {
    const html = landingPage({ ...OPTIONS, url });
    assert.doesNotMatch(html, /\$\(id\)|`id`|a&b/);
    assert.match(boxes(html), /--edge https:\/\/EDGE/);
  }
});

test("the page explains why nobody is let in, and that the edge has no name", () => {
  assert.match(
    landingPage({ ...OPTIONS, entry: "nobody" }),
    /it admits no device yet: the operator sets KEYS \(.*\) or JWKS_URL/,
  );
  assert.match(
    landingPage({ ...OPTIONS, name: undefined, isOwnHost: false }),
    /no name yet: the operator sets RELAY_NAME/,
  );
});

for (const prefix of ["", "/groove"]) {
  test(`the page's commands and link work when pasted, ${prefix === "" ? "at the root" : "under a path"}`, async (context) => {
    const at = await folder(context);
    await writeFile(join(at, "keys.json"), (await runHere(["token", "keygen", "--out", join(at, "key.json")])).stdout);
    const edge = start(context, [
      ...["edge", "--port", "0", "--json", "--keys", join(at, "keys.json"), "--name", "edge.example.com"],
      ...["--prefix", prefix],
    ]);
    const [, url = ""] = await edge.line(/"url":"([^"]+)"/);
    const answer = await fetch(url);
    assert.equal(answer.headers.get("cache-control"), "no-store");
    const html = await answer.text();
    const [, health = ""] = /<a href="([^"]*)">/.exec(html) ?? [];
    assert.equal((await fetch(new URL(health, answer.url))).status, 200);
    const commands = boxes(html).replaceAll("npx grooveway", 'node --disable-warning=ExperimentalWarning "$MAIN"');
    assert.equal(commands.trim().split("\n").length, 4);
    await promisify(execFile)("bash", ["-euc", commands], { cwd: at, env: { ...process.env, MAIN } });
    assert.equal(await readFile(join(at, "hello.txt"), "utf8"), "hello\n");
  });
}

test("an edge without keys shows commands without tokens", async (context) => {
  const edge = start(context, ["edge", "--port", "0", "--json", "--dev"]);
  const [, url = ""] = await edge.line(/"url":"([^"]+)"/);
  assert.doesNotMatch(boxes(await (await fetch(url)).text()), /token/);
});
