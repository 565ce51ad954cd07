/**
 * Link: the edge's one SSTP connection to an origin relay, an object named by the relay's URL, and the consumer of that
 * relay's mailbox.
 *
 *   Tunnels ─► mailbox of the relay ── deliver ─► Link ─► TCP ─► relay        acknowledged by the relay, then cut
 *   relay ─► TCP ─► Link ── append ─► mailboxes of our peers                  acknowledged when they have it
 *
 * The mailbox wakes it; what waits there outlives every connection. It connects as a relay, with as many sessions as
 * there are recipients. While it is up the socket keeps the object in memory; all that is due later is the alarm's:
 * the next try after one that failed, the planned renewal, the end of a link that nobody uses.
 *
 * @module
 */

import { DurableObject } from "cloudflare:workers";
import { ANYBODY } from "../auth/principal.ts";
import { guidFrom, KeepAliveClient } from "../encapsulation/index.ts";
import { READ_SIZE } from "../lib/runtime/byte-reader.ts";
import { within } from "../lib/runtime/timeout.ts";
import { parseURL, relayURL } from "../sstp/index.ts";
import { tokenAuthenticator } from "./authenticator.ts";
import {
  LINK_CONNECT_TIMEOUT,
  LINK_DRAIN,
  LINK_IDLE,
  LINK_LIFE,
  LINK_REST_LAST,
  LINK_RETRY_FIRST,
  LINK_RETRY_LAST,
} from "./defaults.ts";
import { Encapsulated, type Wire } from "./encapsulated.ts";
import type { Env } from "./env.ts";
import type { Delivery, Taken } from "./mailbox.ts";
import { parseLinks } from "./policy/links.ts";
import { parseWays, type Way, waysTo } from "./policy/ways.ts";
import { reachRelay } from "./reach.ts";
import { type Host, Terminal } from "./terminal.ts";

/** Whether the relay can be had now, or in the words of SessionStatus why not [MS-GRVSSTP 2.2.8.1]. */
export type Reach = "connected" | "DNSLookupFailed" | "HostNotReachable" | "ConnectionClosed";

/** What an operator sees of a link. */
export interface LinkStatus {
  readonly relay: string;
  readonly connected: boolean;
  /** When it was connected, in milliseconds since 1970. */
  readonly since: number | undefined;
  /** Where it was reached last: host and port. */
  readonly way: string | undefined;
  /** Tries in a row that have failed, and why the last did. */
  readonly failures: number;
  readonly why: Reach | undefined;
}

/** A connection to the relay. */
interface Line {
  readonly terminal: Terminal;
  readonly wire: Wire;
  readonly since: number;
  /** When octets went last, either way. */
  moved: number;
}

/** What is kept of tries that failed. */
interface Failed {
  readonly failures: number;
  readonly at: number;
  readonly why: Reach;
}

const FAILED = "failed";
const WAY = "way";

export class Link extends DurableObject<Env> {
  #line: Line | undefined;
  #connecting: Promise<Reach> | undefined;
  /** The connection that is being opened: whoever opens it also tries again. */
  #opening: Line | undefined;

  /** There is something for the relay. */
  async wake(): Promise<void> {
    if (this.#line !== undefined || this.#resting() !== undefined) return;
    this.ctx.waitUntil(this.#connect());
  }

  /** For what cannot wait: whether the relay can be had now. Resolves within the deadlines of connecting. */
  async reach(): Promise<Reach> {
    return this.#resting()?.why ?? this.#connect();
  }

  /** The relay's mailbox sends messages. */
  async deliver(peer: string, generation: number, deliveries: readonly Delivery[]): Promise<Taken> {
    return this.#line?.terminal.deliver(peer, generation, deliveries) ?? "gone";
  }

  /** A later connection of this link consumes the mailbox. */
  async fenced(peer: string, generation: number): Promise<boolean> {
    this.#line?.terminal.fenced(peer, generation);
    return false;
  }

  /** Nobody but this link consumes the mailbox, and it comes back by itself. */
  async recall(): Promise<boolean> {
    return false;
  }

  /** Replaces the connection by a new one, in good order: what is on its way is acknowledged first. */
  async renew(): Promise<Reach> {
    if (this.#line !== undefined) await this.#rest(this.#line);
    return this.#connect();
  }

  async status(): Promise<LinkStatus> {
    const failed = this.ctx.storage.kv.get<Failed>(FAILED);
    return {
      relay: this.#relay,
      connected: this.#line !== undefined,
      since: this.#line?.since,
      way: this.ctx.storage.kv.get<string>(WAY),
      failures: this.#line === undefined ? (failed?.failures ?? 0) : 0,
      why: this.#line === undefined ? failed?.why : undefined,
    };
  }

  override async alarm(): Promise<void> {
    const line = this.#line;
    if (line === undefined) {
      if (this.#kept || this.ctx.storage.kv.get(FAILED) !== undefined) await this.#connect();
      return;
    }
    const now = Date.now();
    if (now >= line.since + LINK_LIFE) await this.renew();
    else if (!this.#kept && now >= line.moved + LINK_IDLE) await this.#rest(line);
    else await this.#setAlarm(line);
  }

  get #relay(): string {
    return this.ctx.id.name ?? "";
  }

  /** Whether the operator wants it to be there always, so that what waits at the relay comes. */
  get #kept(): boolean {
    return parseLinks(this.env.LINKS ?? "").urls.includes(this.#relay);
  }

  /** A try has failed, and the next is not due. */
  #resting(): Failed | undefined {
    const failed = this.ctx.storage.kv.get<Failed>(FAILED);
    return failed !== undefined && Date.now() < failed.at ? failed : undefined;
  }

  #connect(): Promise<Reach> {
    if (this.#connecting === undefined && this.#line !== undefined) return Promise.resolve("connected");
    this.#connecting ??= this.#open().finally(() => {
      this.#connecting = undefined;
    });
    return this.#connecting;
  }

  async #open(): Promise<Reach> {
    let why: Reach = "HostNotReachable";
    let rest = 0;
    for (const { way, name } of this.#ways()) {
      const wire = await this.#wire(way, name);
      if (typeof wire === "string") {
        why = wire;
        continue;
      }
      const line = this.#begin(wire);
      this.#opening = line;
      const opened = await within(LINK_CONNECT_TIMEOUT, line.terminal.opened);
      if (opened?.value) {
        this.ctx.storage.kv.put(WAY, name);
        await this.#setAlarm(line);
      }
      this.#opening = undefined;
      // It may have ended as soon as it was open.
      if (opened?.value && this.#line === line) return "connected";
      // One that the terminal has ended says why before it goes.
      if (opened === undefined) this.#over(line);
      else if (this.#line === line) this.#line = undefined;
      rest = Math.max(rest, line.terminal.returnTime);
      why = "ConnectionClosed";
    }
    await this.#retry(why, rest);
    return why;
  }

  /** Where the relay may be, the way that worked last before all others. */
  #ways(): ReturnType<typeof waysTo> {
    const named = parseURL(this.#relay);
    const ways = parseWays(this.env.LINK_WAYS ?? "");
    if (named.kind !== "relay") return [];
    if ("problem" in ways) {
      console.error(JSON.stringify({ reason: "EdgeMisconfigured", message: ways.problem }));
      return [];
    }
    return waysTo(named.relay, ways, this.ctx.storage.kv.get<string>(WAY));
  }

  /** Octets to and from the relay by one way, or why there are none. */
  async #wire(way: Way, name: string): Promise<Wire | Reach> {
    let why: Reach = "HostNotReachable";
    const dial = async (): Promise<Wire | undefined> => {
      const reached = await reachRelay(name, this.env, READ_SIZE, way.kind === "tls");
      if (reached.type === "origin") return reached.origin;
      if (reached.reason === "DNSLookupFailed") why = "DNSLookupFailed";
      return undefined;
    };
    if (way.kind !== "http") return (await dial()) ?? why;
    const first = await dial();
    if (first === undefined) return why;
    const sockets = [first];
    const client = new KeepAliveClient({
      serverHost: name.slice(0, name.lastIndexOf(":")),
      serverPort: way.port,
      relay: this.#relay.slice(this.#relay.indexOf("//") + 2),
      guid: guidFrom(crypto.getRandomValues(new Uint8Array(24))),
    });
    return new Encapsulated(client, async () => sockets.pop() ?? dial());
  }

  #begin(wire: Wire): Line {
    const relay = this.#relay;
    const terminal = new Terminal(this.#host, { localDeviceURLs: [relayURL(this.env.RELAY_NAME ?? "")], relay });
    const line: Line = { terminal, wire, since: Date.now(), moved: Date.now() };
    this.#line = line;
    const pumps = Promise.all([up(line), down(line)]).catch(() => undefined);
    // A relay that does not read what is said to it at the end is not waited for.
    const late = terminal.over.then(() => scheduler.wait(LINK_DRAIN));
    this.ctx.waitUntil(
      Promise.race([pumps, late]).then(async () => {
        const ours = this.#line === line;
        this.#over(line);
        if (!ours || this.#opening === line) return;
        // One that has ended each connection so far may end the next.
        if (terminal.progressed) this.ctx.storage.kv.delete(FAILED);
        await this.#retry("ConnectionClosed", terminal.returnTime);
      }),
    );
    return line;
  }

  /** Ends a connection in good order: nothing new goes on it, and what is on its way is waited for a little. */
  async #rest(line: Line): Promise<void> {
    line.terminal.pause();
    for (let waited = 0; waited < LINK_DRAIN && !line.terminal.idle; waited += LINK_DRAIN / 50) {
      await scheduler.wait(LINK_DRAIN / 50);
    }
    if (this.#line === line) this.#line = undefined;
    this.ctx.storage.kv.delete(FAILED);
    line.terminal.rest();
  }

  #over(line: Line): void {
    if (this.#line === line) this.#line = undefined;
    line.terminal.close();
    line.wire.close();
  }

  /** @param rest seconds for which the relay wants to be left alone */
  async #retry(why: Reach, rest: number): Promise<void> {
    const { failures = 0 } = this.ctx.storage.kv.get<Failed>(FAILED) ?? {};
    const limit = Math.min(LINK_RETRY_FIRST * 2 ** failures, LINK_RETRY_LAST);
    // Full jitter: a relay that comes back must not be met by all its edges at once.
    const at = Date.now() + Math.min(rest * 1000, LINK_REST_LAST) + Math.random() * limit;
    this.ctx.storage.kv.put(FAILED, { failures: failures + 1, at, why } satisfies Failed);
    await this.ctx.storage.setAlarm(at);
  }

  async #setAlarm({ since, moved }: Line): Promise<void> {
    await this.ctx.storage.setAlarm(Math.min(since + LINK_LIFE, moved + LINK_IDLE));
  }

  get #host(): Host {
    return {
      name: this.#relay,
      mailbox: (peer) => this.env.MAILBOX.getByName(peer),
      remote: () => undefined,
      // What a relay may do, its own operator limits: it serves many.
      throttle: () => undefined,
      arrived: () => undefined,
      // The operator has chosen the relay: what it brings is taken as the relay's.
      authenticator: tokenAuthenticator(this.env),
      owner: ANYBODY,
      waitUntil: (promise) => this.ctx.waitUntil(promise),
    };
  }
}

async function up(line: Line): Promise<void> {
  const { terminal, wire } = line;
  for (;;) {
    await terminal.ready();
    const waiting = terminal.take(READ_SIZE);
    if (waiting === undefined) continue;
    if (waiting.kind === "ended") break;
    line.moved = Date.now();
    await wire.write(waiting.octets);
  }
  wire.close();
}

async function down(line: Line): Promise<void> {
  const { terminal, wire } = line;
  for (;;) {
    await wire.ready();
    const waiting = wire.take(READ_SIZE);
    if (waiting === undefined) continue;
    if (waiting.kind === "ended") break;
    line.moved = Date.now();
    await terminal.write(waiting.octets);
  }
  terminal.close();
}
