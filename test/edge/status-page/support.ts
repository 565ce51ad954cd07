/** Operators in browsers without JavaScript: they keep a cookie, follow links and send forms. */
import assert from "node:assert/strict";

export interface Page {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
}

export class Operator {
  readonly edge: string;
  readonly headers: Readonly<Record<string, string>>;
  cookie = "";

  /** @param headers what a proxy adds to each request */
  constructor(edge: string, headers: Readonly<Record<string, string>> = {}) {
    this.edge = edge;
    this.headers = headers;
  }

  get origin(): string {
    return this.headers["X-Forwarded-Proto"] === undefined
      ? new URL(this.edge).origin
      : `${this.headers["X-Forwarded-Proto"]}://${this.headers["X-Forwarded-Host"] ?? new URL(this.edge).host}`;
  }

  async get(path = ""): Promise<Page> {
    return this.#ask(path, { headers: this.#headers() });
  }

  /** Sends a form. @param origin the page from which it comes; undefined: none is named */
  async post(path: string, fields: Readonly<Record<string, string>>, origin: string | undefined = this.origin) {
    const headers = { ...this.#headers(), ...(origin !== undefined && { Origin: origin }) };
    return this.#ask(path, { method: "POST", body: new URLSearchParams(fields), headers });
  }

  async signIn(token: string): Promise<Page> {
    return this.post("sign-in", { token });
  }

  /** Sends the form of a page that has this action, with some of its fields changed. */
  async send(path: string, action: string, fields: Readonly<Record<string, string>> = {}): Promise<Page> {
    return this.post(action, { ...formOf((await this.get(path)).text, action), ...fields });
  }

  async #ask(path: string, init: RequestInit): Promise<Page> {
    const answer = await fetch(`${this.edge}/status/${path}`, { redirect: "manual", ...init });
    const [cookie] = answer.headers.getSetCookie();
    if (cookie !== undefined) this.cookie = cookie.slice(0, cookie.indexOf(";"));
    return { status: answer.status, headers: answer.headers, text: await answer.text() };
  }

  #headers(): Record<string, string> {
    return { ...this.headers, ...(this.cookie !== "" && { Cookie: this.cookie }) };
  }
}

/** The hidden fields of a form. */
export function formOf(html: string, action: string): Record<string, string> {
  const form = new RegExp(`<form[^>]* action="${action}".*?</form>`, "s").exec(html)?.[0];
  assert.ok(form !== undefined, `there is no form ${action}`);
  const fields = form.matchAll(/<input type="hidden" name="([^"]*)" value="([^"]*)"/g);
  return Object.fromEntries([...fields].map(([, name = "", value = ""]) => [name, unescaped(value)]));
}

/** The numbers of a page by their series. */
export function figuresOf(html: string): Map<string, number> {
  const found = html.matchAll(/<data value="([^"]*)" data-series="([^"]*)">/g);
  return new Map([...found].map(([, value = "", series = ""]) => [unescaped(series), Number(value)]));
}

/** The text of HTML as a reader sees it. */
export function unescaped(html: string): string {
  const entities: Readonly<Record<string, string>> = { lt: "<", gt: ">", quot: '"', "#39": "'", amp: "&" };
  return html.replace(/&(lt|gt|quot|#39|amp);/g, (_, name) => entities[name] ?? "");
}
