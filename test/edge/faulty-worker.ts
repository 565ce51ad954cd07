/** The edge's worker, with objects in which a test makes something go wrong, and whose storage it may look into. */
import type { Env } from "../../src/edge/env.ts";
import worker, { Meter as RealMeter, Tunnel as RealTunnel } from "../../src/edge/worker.ts";

export { Directory, Link, Mailbox } from "../../src/edge/worker.ts";

/** What objects are to find when they wake: an attachment of their sockets, and what is stored. */
const planned = new Map<string, readonly [attachment: unknown, stored: unknown]>();
let waking: readonly [attachment: unknown, stored: unknown] | undefined;

const readAttachment = WebSocket.prototype.deserializeAttachment;
WebSocket.prototype.deserializeAttachment = function (this: WebSocket): unknown {
  if (waking?.[0] === "unreadable") throw new Error("it cannot be read");
  return waking === undefined ? readAttachment.call(this) : waking[0];
};

export default {
  async fetch(request, env, context) {
    const [, guid] = /^\/plan\/(.*)$/.exec(new URL(request.url).pathname) ?? [];
    if (guid === undefined) return worker.fetch(request, env, context);
    planned.set(guid, await request.json());
    return new Response();
  },
} satisfies typeof worker;

export class Tunnel extends RealTunnel {
  #failing = false;

  constructor(ctx: DurableObjectState, env: Env) {
    const name = ctx.id.name ?? "";
    waking = planned.get(name);
    planned.delete(name);
    const stored = waking?.[1] ?? undefined;
    if (stored !== undefined) ctx.storage.kv.put("rest", stored);
    super(ctx, env);
    waking = undefined;
  }

  /** From now on whatever looks at octets in here throws. */
  async fail(): Promise<void> {
    this.#failing = true;
  }

  /** What is in storage. */
  async kept(): Promise<string[]> {
    const alarm = await this.ctx.storage.getAlarm();
    return [...[...this.ctx.storage.kv.list()].map(([key]) => key), ...(alarm === null ? [] : ["an alarm"])];
  }

  override push(...[caller, octets]: Parameters<RealTunnel["push"]>): ReturnType<RealTunnel["push"]> {
    return super.push(caller, this.#faulty(octets));
  }

  override exchange(...[caller, target, body]: Parameters<RealTunnel["exchange"]>): ReturnType<RealTunnel["exchange"]> {
    return super.exchange(caller, target, this.#faulty(body));
  }

  override poll(...[caller, body]: Parameters<RealTunnel["poll"]>): ReturnType<RealTunnel["poll"]> {
    return super.poll(caller, this.#faulty(body));
  }

  #faulty(octets: Uint8Array): Uint8Array {
    if (!this.#failing) return octets;
    return new Proxy(octets, {
      get: () => {
        throw new Error("told to fail");
      },
    });
  }
}

export class Meter extends RealMeter {
  readonly #found = [...this.ctx.storage.kv.list()].length;

  constructor(ctx: DurableObjectState, env: Env) {
    const [, stored] = planned.get(ctx.id.name ?? "") ?? [];
    for (const [key, value] of Object.entries(stored ?? {})) ctx.storage.kv.put(key, value);
    planned.delete(ctx.id.name ?? "");
    super(ctx, env);
  }

  async left(): Promise<{ readonly found: number; readonly keys: string[]; readonly alarm: boolean }> {
    return {
      found: this.#found,
      keys: [...this.ctx.storage.kv.list()].map(([key]) => key),
      alarm: (await this.ctx.storage.getAlarm()) !== null,
    };
  }
}
