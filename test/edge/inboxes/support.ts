/** Inboxes of an edge, for tests. */
import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import type { InboxStatus } from "../../../src/edge/rpc/inboxes-rpc.ts";

/** What the API has answered. */
export interface Told {
  readonly status: number;
  readonly said: Record<string, unknown>;
}

export interface Made {
  readonly inbox: InboxStatus;
  /** Its whole URL. */
  readonly url: string;
  readonly capability: string;
}

/** The owners' API of an edge. */
export class InboxApi {
  readonly #url: string;
  readonly #headers: Record<string, string>;

  /** @param url of the edge */
  constructor(url: string, headers: Record<string, string> = {}) {
    this.#url = url;
    this.#headers = headers;
  }

  async ask(method: string, path: string, body?: object | Uint8Array): Promise<Told> {
    const sent = body === undefined || body instanceof Uint8Array ? body : JSON.stringify(body);
    const headers = this.#headers;
    const answer = await fetch(`${this.#url}/inboxes/${path}`, {
      method,
      headers,
      ...(sent !== undefined && { body: sent }),
    });
    return { status: answer.status, said: (await answer.json()) as Record<string, unknown> };
  }

  /** Makes an inbox. */
  async make(address: string, fields: Record<string, unknown>): Promise<Made> {
    return this.made(await this.ask("POST", encodeURIComponent(address), fields));
  }

  /** The inbox that the API has made or changed. */
  made({ status, said }: Told): Made {
    assert.equal(status, 200, JSON.stringify(said));
    const path = String(said.path);
    return { inbox: said.inbox as InboxStatus, url: this.#url + path, capability: path.slice("/in/".length) };
  }

  async list(address: string): Promise<InboxStatus[]> {
    const { said } = await this.ask("GET", encodeURIComponent(address));
    return said.inboxes as InboxStatus[];
  }
}

export interface Posted {
  readonly status: number;
  /** The reason of a refusal; undefined if it was stored. */
  readonly code: string | undefined;
  readonly text: string;
  readonly headers: Headers;
}

/** Posts to an inbox. */
export async function post(
  url: string,
  body: string | Uint8Array,
  headers: Record<string, string> = {},
): Promise<Posted> {
  const answer = await fetch(url, { method: "POST", body, headers });
  return {
    status: answer.status,
    code: answer.headers.get("grooveway-reason") ?? undefined,
    text: await answer.text(),
    headers: answer.headers,
  };
}

/** The headers of a webhook of GitHub. */
export function signedByGitHub(secret: string, body: string | Uint8Array, delivery: string): Record<string, string> {
  const mac = createHmac("sha256", secret).update(body).digest("hex");
  return { "X-GitHub-Event": "push", "X-GitHub-Delivery": delivery, "X-Hub-Signature-256": `sha256=${mac}` };
}
