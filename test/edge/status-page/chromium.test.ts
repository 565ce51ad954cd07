/** The status page in Chromium: plots, keyboard, a phone, dark mode, and without JavaScript. */
import assert from "node:assert/strict";
import { describe, it, type TestContext } from "node:test";
import type { LocalEdge } from "../../../src/cli/local-edge/local-edge.ts";
import { authority } from "../../support/certificates.ts";
import { NO_CHROMIUM } from "../../support/chromium.ts";
import { type DrivenPage, openPage } from "../../support/chromium-page.ts";
import { connect, startEdge, until } from "../mailbox/support.ts";

const TOKEN = "an admin's secret";
const PATHS = ["", "connections", "mailboxes", "mailboxes?all=1", "mailbox?peer=bob/desk", "purge?peer=bob/desk"];

/** A page that is signed in at an edge where something waits and something was refused. */
async function startPage(t: TestContext): Promise<{ readonly page: DrivenPage; readonly base: string }> {
  const edge = await startEdge(t, { adminToken: TOKEN });
  const alice = await connect(edge, "alice/laptop", "websocket");
  t.after(() => alice.close());
  await alice.send("bob/desk", "waits");
  await alice.send(`${"long".repeat(20)}/${"name".repeat(20)}`, "waits");
  await (await fetch(`${edge.url}/nothing`)).arrayBuffer();
  return signedInAt(t, edge);
}

async function signedInAt(
  t: TestContext,
  edge: LocalEdge,
): Promise<{ readonly page: DrivenPage; readonly base: string }> {
  const page = await openPage(t);
  await page.trustAll();
  const base = `${edge.url}/status/`;
  await page.look({ width: 1280 });
  await page.open(`${edge.url}/status`);
  // By the keyboard alone: the field has the focus.
  await until("it has the focus", () => page.run<boolean>(`document.activeElement.id === "token"`));
  await page.run(`document.querySelector("#token").value = ${JSON.stringify(TOKEN)}`);
  await page.press("Enter");
  await until("it is signed in", () =>
    page.run<boolean>(`document.title.startsWith("Overview") && document.readyState === "complete"`),
  );
  return { page, base };
}

describe("the status page in Chromium", { skip: NO_CHROMIUM, timeout: 180_000 }, () => {
  it("is signed in by https with a cookie that no other host can set, and signs out", async (t) => {
    const edge = await startEdge(t, { adminToken: TOKEN, tls: authority() });
    const { page, base } = await signedInAt(t, edge);
    assert.deepEqual(await page.cookies(base), ["__Host-grooveway-session"]);
    await page.run(`document.querySelector("form[action=sign-out]").requestSubmit()`);
    await until("it is signed out", async () => (await page.run<string>("document.title")).startsWith("Sign in"));
    assert.deepEqual(await page.cookies(base), []);
  });

  it("draws plots, in both colour schemes, and breaks none of its own rules", async (t) => {
    const { page, base } = await startPage(t);
    const drawn = `document.querySelectorAll("figure canvas").length`;
    await until("plots are drawn", async () => (await page.run<number>(drawn)) >= 3);
    const colour = () => page.run<string>(`getComputedStyle(document.body).backgroundColor`);
    const legend = await page.run<string>(`document.querySelector("figure[data-plot=refusals]").innerText`);
    assert.match(legend, /NotFound/);
    const light = await colour();
    await page.look({ width: 1280, dark: true });
    assert.notEqual(await colour(), light);
    for (const path of PATHS) await page.open(base + path);
    // The form to sign in is answered with 401; nothing else may be wrong.
    const wrong = page.said.filter((line) => !line.includes("401") && !line.includes('"verbose"'));
    assert.deepEqual(wrong, []);
  });

  it("fits a phone, a tablet and a desk: no page is wider than the window, and no text is cut off", async (t) => {
    const { page, base } = await startPage(t);
    for (const width of [375, 768, 1280]) {
      await page.look({ width });
      for (const path of PATHS) {
        await page.open(base + path);
        assert.ok((await page.run<number>("document.documentElement.scrollWidth")) <= width, `${path} at ${width}`);
        const small = await page.run<string[]>(
          `[...document.querySelectorAll("button, header nav a")].filter((one) => one.offsetHeight < 24).map((one) => one.innerText)`,
        );
        assert.deepEqual(small, [], "all can be touched");
      }
    }
  });

  it("works by the keyboard: all is reached by Tab in order, and the focus is seen", async (t) => {
    const { page, base } = await startPage(t);
    await page.open(`${base}mailbox?peer=bob/desk`);
    const reached: string[] = [];
    for (let at = 0; at < 9; at += 1) {
      await page.press("Tab");
      const [name, outline] = await page.run<[string, string]>(
        `[document.activeElement.innerText || document.activeElement.name, getComputedStyle(document.activeElement).outlineStyle]`,
      );
      assert.notEqual(outline, "none", name);
      reached.push(name);
    }
    assert.deepEqual(reached.slice(0, 5), ["Skip to the content", "Overview", "Connections", "Mailboxes", "Sign out"]);
    assert.deepEqual(reached.slice(5, 9), ["senders", "Set the rule", "Lock", "Remove 1 message…"]);
  });

  it("locks and purges without JavaScript", async (t) => {
    const { page, base } = await startPage(t);
    await page.look({ width: 1280, javascript: false });
    await page.open(base);
    const text = () => page.run<string>("document.body.innerText");
    assert.match(await text(), /Plots need JavaScript/);
    await page.open(`${base}mailbox?peer=bob/desk`);
    await page.follow(`document.querySelector("form[action=lock]").requestSubmit()`);
    assert.match(await text(), /All senders are shut out now/);
    await page.follow(`document.querySelector("form[action=purge]").requestSubmit()`);
    assert.match(await text(), /Remove what waits\?/);
    await page.follow(`document.querySelector("form[action=purge]").requestSubmit()`);
    assert.match(await text(), /The messages that waited were removed/);
    assert.match(await text(), /Purged 1/);
  });
});
