/**
 * Link: the edge's one SSTP connection to an origin relay, an object named by the relay's URL, and the consumer of that
 * relay's mailbox.
 *
 *   Tunnels ─► mailbox of the relay ── deliver ─► Link ─► TCP ─► relay        acknowledged by the relay, then cut
 *   relay ─► TCP ─► Link ── append ─► mailboxes of our peers                  acknowledged when they have it
 *
 * The mailbox wakes it; what waits there outlives every connection. It connects as a relay, with as many sessions as
 * there are recipients. While it is up the socket keeps the object in memory; all that is due later is the alarm's:
 * the next try after one that failed, the planned renewal, the end of a link that nobody uses. Of that nothing is left:
 * no row, no alarm.
 *
 * With a secret for the relay in LINK_SECRETS nothing is taken or handed over before both have proved that they have it,
 * by whatever way the relay is reached.
 *
 * @module
 */

import { DurableObject } from "cloudflare:workers";
import { ownNames } from "../../auth/own-names.ts";
import { tokenAuthenticator } from "../../auth/permissions.ts";
import { ANYBODY } from "../../auth/principal.ts";
import { DiallerProof, relayNamed } from "../../auth/relay-proof.ts";
import { UNQUESTIONED } from "../../auth/standing.ts";
import { guidFrom, KeepAliveClient } from "../../encapsulation/index.ts";
import { READ_SIZE } from "../../lib/runtime/byte-reader.ts";
import { within } from "../../lib/runtime/timeout.ts";
import type { EndpointContext } from "../endpoint/endpoint-context.ts";
import { SstpEndpoint } from "../endpoint/sstp-endpoint.ts";
import type { Env } from "../env.ts";
import { dialRelay } from "../origin/dial-relay.ts";
import { allowedLink, tellRefusal } from "../origin/relay-policy.ts";
import { type LinkTerms, linkTerms, type NamedWay, parseLinks } from "../policy/link-settings.ts";
import type { Way } from "../policy/link-ways.ts";
import { messageLimit } from "../policy/quota-setting.ts";
import type { Reason } from "../reasons.ts";
import { REACH_TIMEOUT } from "../rpc/deadlines.ts";
import type { LinkRpc, LinkStatus, Reach } from "../rpc/link-rpc.ts";
import type { Delivery, Taken } from "../rpc/mailbox-rpc.ts";
import { KeepAliveChannel, type Wire } from "./keepalive-channel.ts";
import {
  LINK_CONNECT_TIMEOUT,
  LINK_DRAIN,
  LINK_IDLE,
  LINK_LIFE,
  LINK_RECIPIENTS,
  LINK_REST_LAST,
  LINK_RETRY_FIRST,
  LINK_RETRY_LAST,
  LINK_WANTED,
} from "./limits.ts";

/** A connection to the relay. */
interface Line {
  readonly endpoint: SstpEndpoint;
  readonly wire: Wire;
  readonly since: number;
  /** When it was last used, and how often the endpoint had been until then. */
  usedAt: number;
  uses: number;
}

/** What is kept of tries that failed. */
interface Failed {
  readonly failures: number;
  readonly at: number;
  readonly why: Reach;
  readonly reason?: Reason | undefined;
  /** When there was last something for the relay. */
  readonly wanted: number;
}

/** Why a try has failed. */
type Failure = Pick<Failed, "why" | "reason">;

const FAILED = "failed";
const WAY = "way";

export class Link extends DurableObject<Env> implements LinkRpc {
  #line: Line | undefined;
  #connecting: Promise<Reach> | undefined;
  #connectingSince = 0;
  /** The connection that is being opened: whoever opens it also tries again. */
  #opening: Line | undefined;
  /** When there was last something for the relay. */
  #wantedAt = 0;

  /** There is something for the relay. */
  async wake(): Promise<void> {
    if (this.#line !== undefined || this.#want() !== undefined) return;
    this.ctx.waitUntil(this.#connect());
  }

  /** For what cannot wait: whether the relay can be had now, by any of its ways. It is tried for longer than is waited here. */
  async reach(): Promise<Reach> {
    const resting = this.#want()?.why;
    if (resting !== undefined) return resting;
    const connecting = this.#connect();
    this.ctx.waitUntil(connecting);
    // Who comes while it is tried waits for the rest of the time, so that nobody waits for one after the other.
    const left = this.#connecting === undefined ? REACH_TIMEOUT : this.#connectingSince + REACH_TIMEOUT - Date.now();
    const reached = left > 0 ? await within(left, connecting) : undefined;
    return reached?.value ?? "HostNotReachable";
  }

  /** The relay's mailbox sends messages. */
  async deliver(peer: string, generation: number, deliveries: readonly Delivery[], position: number): Promise<Taken> {
    return this.#line?.endpoint.deliver(peer, generation, deliveries, position) ?? "gone";
  }

  /** A later connection of this link consumes the mailbox. */
  async fenced(peer: string, generation: number): Promise<boolean> {
    this.#line?.endpoint.fenced(peer, generation);
    return false;
  }

  /** A link looks after its connection itself. */
  async lastSign(): Promise<number> {
    return Date.now();
  }

  /** Nobody but this link consumes the mailbox, and it comes back by itself. */
  async recall(): Promise<boolean> {
    return false;
  }

  /** A mailbox for which sessions of the relay were suspended has room again. */
  async room(peer: string, upTo: number): Promise<void> {
    this.#line?.endpoint.room(peer, upTo);
  }

  /** Replaces the connection by a new one, in good order: what is on its way is acknowledged first. */
  async renew(): Promise<Reach> {
    if (this.#line !== undefined) await this.#rest(this.#line);
    return this.#connect();
  }

  async status(): Promise<LinkStatus> {
    const line = this.#line?.endpoint.connected ? this.#line : undefined;
    const failed = line === undefined ? this.#failed : undefined;
    return {
      relay: this.#relay,
      connected: line !== undefined,
      since: line?.since,
      way: this.#lastWay,
      failures: failed?.failures ?? 0,
      why: failed?.why,
      reason: failed?.reason,
    };
  }

  override async alarm(): Promise<void> {
    const line = this.#line;
    const now = this.now();
    if (line === undefined) {
      // Opening one sets the next alarm.
      if (this.#connecting !== undefined) return;
      const wanted = Math.max(this.#failed?.wanted ?? 0, this.#wantedAt);
      if (this.#kept || now < wanted + LINK_WANTED) await this.#connect();
      else await this.#forget();
      return;
    }
    if (!this.#kept && now >= line.usedAt + LINK_IDLE && line.endpoint.idle) {
      await this.#rest(line);
      // A message that has come meanwhile was not sent any more.
      if (line.endpoint.uses === line.uses) await this.#forget();
      else await this.#connect();
    } else if (now >= line.since + LINK_LIFE) {
      await this.renew();
    } else {
      await this.#setAlarm(line);
    }
  }

  /** The time. Tests drive it. */
  protected now(): number {
    return Date.now();
  }

  get #relay(): string {
    return this.ctx.id.name ?? "";
  }

  /** Whether the operator wants it to be there always, so that what waits at the relay comes. */
  get #kept(): boolean {
    return parseLinks(this.env.LINKS ?? "").urls.includes(this.#relay);
  }

  get #lastWay(): string | undefined {
    const way = this.ctx.storage.kv.get<unknown>(WAY);
    return typeof way === "string" ? way : undefined;
  }

  /** What is kept of tries that failed. What another release has written in another form is no reason to wait. */
  get #failed(): Failed | undefined {
    const failed = this.ctx.storage.kv.get<Partial<Failed>>(FAILED);
    if (typeof failed?.failures !== "number" || typeof failed.at !== "number" || failed.why === undefined)
      return undefined;
    const { failures, at, why, reason } = failed;
    return { failures, at, why, reason, wanted: typeof failed.wanted === "number" ? failed.wanted : at };
  }

  /** Somebody wants the link: it is tried again for a while. Returns what is known when the next try is not due. */
  #want(): Failed | undefined {
    const failed = this.#failed;
    const now = this.now();
    this.#wantedAt = now;
    if (failed === undefined) return undefined;
    // Not each message that comes while the relay is away is worth a write.
    if (now > failed.wanted + LINK_WANTED / 8) {
      this.ctx.storage.kv.put(FAILED, { ...failed, wanted: now } satisfies Failed);
    }
    return now < failed.at ? failed : undefined;
  }

  /** Nobody uses it: nothing is left, not even the alarm. */
  async #forget(): Promise<void> {
    if (this.#line === undefined && this.#connecting === undefined) await this.ctx.storage.deleteAll();
  }

  #connect(): Promise<Reach> {
    if (this.#connecting === undefined && this.#line !== undefined) return Promise.resolve("connected");
    if (this.#connecting === undefined) this.#connectingSince = Date.now();
    this.#connecting ??= this.#open().finally(() => {
      this.#connecting = undefined;
    });
    return this.#connecting;
  }

  async #open(): Promise<Reach> {
    const terms = linkTerms(this.#relay, this.env);
    const own = relayNamed(`grooveDNS://${ownNames(this.env.RELAY_NAME)[0] ?? ""}`);
    let failure: Failure = { why: "HostNotReachable" };
    let rest = 0;
    if (terms === undefined || own === undefined) {
      console.error(
        JSON.stringify({ reason: "EdgeMisconfigured", message: "LINK_SECRETS or RELAY_NAME cannot be read" }),
      );
      await this.#retry({ ...failure, reason: "EdgeMisconfigured" }, rest);
      return failure.why;
    }
    const ways = this.#ways();
    if ("why" in ways) {
      await this.#retry(ways, rest);
      return ways.why;
    }
    for (const { way, name } of ways) {
      const wire = await this.#wire(way, name, terms);
      if ("why" in wire) {
        failure = wire;
        continue;
      }
      const { secrets } = terms;
      // None of the ways does without it: who keeps the edge from one must not get by on another.
      const proof = secrets && (await DiallerProof.begin(secrets, { dialler: own, acceptor: this.#relay }));
      const line = this.#begin(wire, own, proof);
      this.#opening = line;
      const opened = await within(LINK_CONNECT_TIMEOUT, line.endpoint.opened);
      if (opened?.value) {
        this.ctx.storage.kv.put(WAY, name);
        await this.#setAlarm(line);
      }
      this.#opening = undefined;
      // It may have ended as soon as it was open.
      if (opened?.value && this.#line === line) return "connected";
      // One that the endpoint has ended says why before it goes.
      if (opened === undefined) this.#over(line);
      else if (this.#line === line) this.#line = undefined;
      rest = Math.max(rest, restOf(line));
      failure = { why: "ConnectionClosed", reason: line.endpoint.refusal };
      if (failure.reason !== undefined) this.#tell(failure.reason, name);
    }
    await this.#retry(failure, rest);
    return failure.why;
  }

  /** The operator wants to know why a relay that could be reached is not linked. */
  #tell(reason: Reason, way: string): void {
    console.warn(JSON.stringify({ reason, relay: this.#relay, way }));
  }

  /** Where the relay may be, the way that worked last before all others; or why it may not be dialled at all. */
  #ways(): readonly NamedWay[] | Failure {
    const allowed = allowedLink(this.#relay, this.env, this.#lastWay);
    if (allowed.type === "allowed") return allowed.ways;
    tellRefusal(this.#relay, allowed);
    return { why: "HostNotReachable", reason: allowed.reason };
  }

  /** Octets to and from the relay by one way, or why there are none. */
  async #wire(way: Way, name: string, { clear }: LinkTerms): Promise<Wire | Failure> {
    let failure: Failure = { why: "HostNotReachable" };
    const dial = async (): Promise<Wire | undefined> => {
      const reached = await dialRelay(name, this.env, READ_SIZE, { tls: way.kind === "tls", clear });
      if (reached.type === "origin") return reached.origin;
      const { reason } = reached;
      failure = { why: reason === "DNSLookupFailed" ? reason : "HostNotReachable", reason };
      return undefined;
    };
    if (way.kind !== "http") return (await dial()) ?? failure;
    const first = await dial();
    if (first === undefined) return failure;
    const sockets = [first];
    const client = new KeepAliveClient({
      serverHost: name.slice(0, name.lastIndexOf(":")),
      serverPort: way.port,
      relay: this.#relay.slice(this.#relay.indexOf("//") + 2),
      guid: guidFrom(crypto.getRandomValues(new Uint8Array(24))),
    });
    return new KeepAliveChannel(client, async () => sockets.pop() ?? dial());
  }

  #begin(wire: Wire, own: string, proof: DiallerProof | undefined): Line {
    const relay = this.#relay;
    const endpoint = new SstpEndpoint(this.#host, { localDeviceURLs: [own], relay, proof });
    const now = this.now();
    const line: Line = { endpoint, wire, since: now, usedAt: now, uses: 0 };
    this.#line = line;
    const moved = () => {
      if (endpoint.uses === line.uses) return;
      line.uses = endpoint.uses;
      line.usedAt = this.now();
    };
    const pumps = Promise.all([up(line, moved), down(line, moved)]).catch(() => undefined);
    // A relay that does not read what is said to it at the end is not waited for.
    const late = endpoint.over.then(() => scheduler.wait(LINK_DRAIN));
    this.ctx.waitUntil(
      Promise.race([pumps, late]).then(async () => {
        const ours = this.#line === line;
        this.#over(line);
        if (!ours || this.#opening === line) return;
        // One that has ended each connection so far may end the next, unless it stood or was of use.
        if (endpoint.progressed || this.now() - line.since >= LINK_RETRY_LAST) this.ctx.storage.kv.delete(FAILED);
        // What was on its way has to come again, and one that was never used was not wanted for that.
        if (line.uses > 0) this.#wantedAt = Math.max(this.#wantedAt, line.usedAt);
        await this.#retry({ why: "ConnectionClosed" }, restOf(line));
      }),
    );
    return line;
  }

  /** Ends a connection in good order: nothing new goes on it, and what is on its way is waited for a little. */
  async #rest(line: Line): Promise<void> {
    line.endpoint.pause();
    for (let waited = 0; waited < LINK_DRAIN && !line.endpoint.idle; waited += LINK_DRAIN / 50) {
      await scheduler.wait(LINK_DRAIN / 50);
    }
    if (this.#line === line) this.#line = undefined;
    this.ctx.storage.kv.delete(FAILED);
    line.endpoint.rest();
  }

  #over(line: Line): void {
    if (this.#line === line) this.#line = undefined;
    line.endpoint.close();
    line.wire.close();
  }

  /** @param rest seconds for which the relay wants to be left alone */
  async #retry({ why, reason }: Failure, rest: number): Promise<void> {
    const { failures = 0, wanted = 0 } = this.#failed ?? {};
    const limit = Math.min(LINK_RETRY_FIRST * 2 ** failures, LINK_RETRY_LAST);
    // Full jitter: a relay that comes back must not be met by all its edges at once.
    const at = this.now() + Math.min(rest * 1000, LINK_REST_LAST) + Math.random() * limit;
    const failed: Failed = { failures: failures + 1, at, why, reason, wanted: Math.max(wanted, this.#wantedAt) };
    this.ctx.storage.kv.put(FAILED, failed);
    await this.ctx.storage.setAlarm(at);
  }

  async #setAlarm({ since, usedAt }: Line): Promise<void> {
    const life = since + LINK_LIFE;
    if (this.#kept) return this.ctx.storage.setAlarm(life);
    // One that is past its time and has something on its way is looked at again.
    const idle = usedAt + LINK_IDLE;
    const now = this.now();
    await this.ctx.storage.setAlarm(Math.min(life, idle > now ? idle : now + LINK_IDLE));
  }

  get #host(): EndpointContext {
    return {
      name: this.#relay,
      mailbox: (peer) => this.env.MAILBOX.getByName(peer),
      remote: () => undefined,
      recipients: LINK_RECIPIENTS,
      messageLimit: messageLimit(this.env.QUOTA ?? ""),
      trust: () => undefined,
      // What a relay may do, its own operator limits: it serves many.
      throttle: () => undefined,
      arrived: () => undefined,
      // The operator has chosen the relay: what it brings is taken as the relay's.
      authenticator: tokenAuthenticator(this.env, () => undefined),
      standing: UNQUESTIONED,
      owner: ANYBODY,
      waitUntil: (promise) => this.ctx.waitUntil(promise),
    };
  }
}

/** Seconds for which the relay, or a proxy before it, wants to be left alone. */
function restOf({ endpoint, wire }: Line): number {
  return Math.max(endpoint.returnTime, wire.retryAfter ?? 0);
}

async function up(line: Line, moved: () => void): Promise<void> {
  const { endpoint, wire } = line;
  for (;;) {
    await endpoint.ready();
    const waiting = endpoint.take(READ_SIZE);
    if (waiting === undefined) continue;
    if (waiting.kind === "ended") break;
    moved();
    await wire.write(waiting.octets);
  }
  wire.close();
}

async function down(line: Line, moved: () => void): Promise<void> {
  const { endpoint, wire } = line;
  for (;;) {
    await wire.ready();
    const waiting = wire.take(READ_SIZE);
    if (waiting === undefined) continue;
    if (waiting.kind === "ended") break;
    await endpoint.write(waiting.octets);
    moved();
  }
  endpoint.close();
}
