/**
 * Link: the edge's one SSTP connection to an origin relay, and the consumer of that relay's mailbox. A Durable Object
 * named by the relay's URL.
 *
 *   Tunnels ─► mailbox of the relay ── deliver ─► Link ─► TCP ─► relay     deleted when the relay acknowledges
 *   relay ─► TCP ─► Link ── append ─► mailboxes of our peers               acknowledged when a mailbox has it
 *   Tunnel ── stream ─► Link ─► TCP ─► relay, and back                     TCP streams between devices, past mailboxes
 *
 * The mailbox wakes the Link; its messages outlive every connection. The Link connects as a relay, with one session per
 * recipient. While it is connected, the socket keeps the object in memory. The alarm does everything else: the retry
 * after a failure, the planned renewal, and the end of an unused link, which leaves no row and no alarm.
 *
 * Invariant: if LINK_SECRETS has a secret for the relay, no message passes in either direction until both sides have
 * proved that they know it, by whatever way the relay is reached.
 *
 * @module
 */

import { DurableObject } from "cloudflare:workers";
import { ownNames } from "../../auth/own-names.ts";
import { tokenAuthenticator } from "../../auth/permissions.ts";
import { ANYBODY } from "../../auth/principal.ts";
import { DiallerProof, relayNamed } from "../../auth/relay-proof.ts";
import { UNQUESTIONED } from "../../auth/token-recheck.ts";
import { guidFrom, KeepAliveClient } from "../../encapsulation/index.ts";
import { splitHostPort } from "../../lib/host-port.ts";
import { READ_SIZE } from "../../lib/runtime/byte-reader.ts";
import { within } from "../../lib/runtime/timeout.ts";
import { sendSoon } from "../collector/send-metrics.ts";
import { consumerIn } from "../endpoint/consumer-path.ts";
import type { EndpointContext } from "../endpoint/endpoint-context.ts";
import { SstpEndpoint } from "../endpoint/sstp-endpoint.ts";
import type { Env } from "../env.ts";
import { inspectSettings, logReason } from "../log.ts";
import { counters } from "../metrics/counters.ts";
import { ABSENT, type ObjectState, objectStates, present } from "../metrics/object-states.ts";
import { dialRelay } from "../origin/dial-relay.ts";
import { allowedLink, tellRefusal } from "../origin/relay-access.ts";
import { type LinkTerms, linkTerms, type NamedWay, parseLinks } from "../policy/link-settings.ts";
import type { Way } from "../policy/link-ways.ts";
import { messageLimit } from "../policy/quota-setting.ts";
import type { Reason } from "../reasons.ts";
import { REACH_TIMEOUT } from "../rpc/deadlines.ts";
import type { LinkRpc, LinkStatus, Reach } from "../rpc/link-rpc.ts";
import type { Delivery, Taken } from "../rpc/mailbox-rpc.ts";
import type { MessageBatch } from "../rpc/message-batch.ts";
import { KeepAliveChannel, type Wire } from "./keepalive-channel.ts";
import {
  LINK_CONNECT_TIMEOUT,
  LINK_DRAIN,
  LINK_IDLE,
  LINK_LIFE,
  LINK_LOOK,
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
  /** When it was last used, and the endpoint's `uses` at that time. */
  usedAt: number;
  uses: number;
}

/** The stored record of failed tries. */
interface Failed {
  readonly failures: number;
  readonly at: number;
  readonly why: Reach;
  readonly reason?: Reason | undefined;
  /** When the link was last wanted. */
  readonly wanted: number;
  /** When it failed, and until when the relay asks not to be called. Absent in what earlier releases have stored. */
  readonly since?: number;
  readonly rest?: number;
}

/** Why a try failed. */
type Failure = Pick<Failed, "why" | "reason">;

const FAILED = "failed";
const WAY = "way";

export class Link extends DurableObject<Env> implements LinkRpc {
  #line: Line | undefined;
  #connecting: Promise<Reach> | undefined;
  #connectingSince = 0;
  /** The connection that is being opened. If it fails, `#open` retries, not its end handler. */
  #opening: Line | undefined;
  /** When the link was last wanted. */
  #wantedAt = 0;

  /** Connects, because there is something for the relay. Does nothing before the next retry is due. */
  async wake(): Promise<void> {
    if (this.#line !== undefined || this.#want() !== undefined) return;
    this.ctx.waitUntil(this.#connect());
  }

  /**
   * Whether the relay is connected now, or can be within {@link REACH_TIMEOUT}, by any of its ways. For messages that
   * cannot wait. The try itself goes on for longer.
   */
  async reach(): Promise<Reach> {
    const resting = this.#want()?.why;
    if (resting !== undefined) return resting;
    const connecting = this.#connect();
    this.ctx.waitUntil(connecting);
    // Calls during a try share its deadline, so that messages behind each other do not each wait for the whole time.
    const left = this.#connecting === undefined ? REACH_TIMEOUT : this.#connectingSince + REACH_TIMEOUT - Date.now();
    const reached = left > 0 ? await within(left, connecting) : undefined;
    return reached?.value ?? "HostNotReachable";
  }

  /** Called by the relay's mailbox to send messages. */
  async deliver(peer: string, generation: number, deliveries: readonly Delivery[], position: number): Promise<Taken> {
    await this.#line?.endpoint.attaching(peer);
    return this.#line?.endpoint.deliver(peer, generation, deliveries, position) ?? "gone";
  }

  /** Called by the Tunnel of a device that streams to one behind the relay. Resolves when there is room. */
  async stream(peer: string, generation: number, bundle: MessageBatch): Promise<Taken> {
    const { length } = bundle.octets;
    await this.#line?.endpoint.attaching(peer);
    const taken = await this.#line?.endpoint.stream(peer, generation, bundle);
    if (taken === "taken") counters.count("streamBytes", "", length);
    return taken ?? "gone";
  }

  /** Called when a later connection of this link has taken over the mailbox. */
  async fenced(peer: string, generation: number): Promise<boolean> {
    await this.#line?.endpoint.attaching(peer);
    this.#line?.endpoint.fenced(peer, generation);
    return false;
  }

  /** Always now: the Link itself detects a dead connection. */
  async lastSign(): Promise<number> {
    return Date.now();
  }

  /** Not needed: only this Link consumes the mailbox, and it reconnects by itself. */
  async recall(): Promise<boolean> {
    return false;
  }

  /** Called when a mailbox has room again for which sessions of the relay were suspended. */
  async room(peer: string, upTo: number, sender?: string): Promise<void> {
    this.#line?.endpoint.room(peer, upTo, sender);
  }

  /** Replaces the connection with a new one, after waiting up to {@link LINK_DRAIN} for acknowledgements. */
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

  async look(): Promise<LinkStatus> {
    if (this.#line === undefined && this.#connecting === undefined && this.now() >= this.#nextLook) {
      this.ctx.waitUntil(this.#connect());
    }
    return this.status();
  }

  /** When /ready may try a failed link again: before its next try is due, but not while the relay asks for rest. */
  get #nextLook(): number {
    const failed = this.#failed;
    if (failed === undefined) return Number.NEGATIVE_INFINITY;
    const { at, since = at, rest = at } = failed;
    return Math.min(at, Math.max(since + LINK_LOOK, rest));
  }

  override async alarm(): Promise<void> {
    const line = this.#line;
    const now = this.now();
    if (line === undefined) {
      // `#open` sets the next alarm.
      if (this.#connecting !== undefined) return;
      const wanted = Math.max(this.#failed?.wanted ?? 0, this.#wantedAt);
      if (this.#kept || now < wanted + LINK_WANTED) await this.#connect();
      else await this.#forget();
      return;
    }
    if (!this.#kept && now >= line.usedAt + LINK_IDLE && line.endpoint.idle) {
      await this.#rest(line);
      // A message that arrived meanwhile was not sent, and needs a new connection.
      if (line.endpoint.uses === line.uses) await this.#forget();
      else await this.#connect();
    } else if (now >= line.since + LINK_LIFE) {
      await this.renew();
    } else {
      await this.#setAlarm(line);
    }
  }

  /** The clock, which tests override. */
  protected now(): number {
    return Date.now();
  }

  get #relay(): string {
    return this.ctx.id.name ?? "";
  }

  /** Whether LINKS keeps this link connected, so that messages waiting at the relay arrive. */
  get #kept(): boolean {
    return parseLinks(this.env.LINKS ?? "").urls.includes(this.#relay);
  }

  get #lastWay(): string | undefined {
    const way = this.ctx.storage.kv.get<unknown>(WAY);
    return typeof way === "string" ? way : undefined;
  }

  /**
   * The stored record of failed tries; undefined if there is none, or if another release has written it in another
   * format.
   */
  get #failed(): Failed | undefined {
    const failed = this.ctx.storage.kv.get<Partial<Failed>>(FAILED);
    if (typeof failed?.failures !== "number" || typeof failed.at !== "number" || failed.why === undefined)
      return undefined;
    const { failures, at, why, reason, since = at, rest = at } = failed;
    return { failures, at, why, reason, since, rest, wanted: typeof failed.wanted === "number" ? failed.wanted : at };
  }

  /**
   * Notes that the link is wanted, so it is retried for a while. Returns the last failure if the next try is not due
   * yet.
   */
  #want(): Failed | undefined {
    const failed = this.#failed;
    const now = this.now();
    this.#wantedAt = now;
    if (failed === undefined) return undefined;
    // The time is saved rarely: an unreachable relay must not cost a row written for each message.
    if (now > failed.wanted + LINK_WANTED / 8) {
      this.ctx.storage.kv.put(FAILED, { ...failed, wanted: now } satisfies Failed);
    }
    return now < failed.at ? failed : undefined;
  }

  /** Deletes everything of an unused link, the alarm included. */
  async #forget(): Promise<void> {
    if (this.#line !== undefined || this.#connecting !== undefined) return;
    this.#observe(ABSENT);
    await this.ctx.storage.deleteAll();
  }

  /** Reports the state of the link, for the metrics. */
  #observe(state: ObjectState): void {
    objectStates.observe("link", this.#relay, state);
    sendSoon(this.ctx, this.env);
  }

  #connect(): Promise<Reach> {
    if (this.#connecting === undefined && this.#line !== undefined) return Promise.resolve("connected");
    if (this.#connecting === undefined) this.#connectingSince = Date.now();
    this.#connecting ??= this.#tryOnce().finally(() => {
      this.#connecting = undefined;
    });
    return this.#connecting;
  }

  async #tryOnce(): Promise<Reach> {
    const reached = await this.#open();
    counters.count("linkTries", reached);
    sendSoon(this.ctx, this.env);
    return reached;
  }

  async #open(): Promise<Reach> {
    const terms = linkTerms(this.#relay, this.env);
    const own = relayNamed(`grooveDNS://${ownNames(this.env.RELAY_NAME)[0] ?? ""}`);
    let failure: Failure = { why: "HostNotReachable" };
    let rest = 0;
    const unserved = inspectSettings(this.env);
    if (terms === undefined || own === undefined || unserved !== undefined) {
      const which = unserved?.setting ?? "LINK_SECRETS or RELAY_NAME";
      logReason("error", "EdgeMisconfigured", { message: `${which} cannot be read` });
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
      // Every way needs the proof: an attacker who blocks one way must not get by on another.
      const proof = secrets && (await DiallerProof.begin(secrets, { dialler: own, acceptor: this.#relay }));
      const line = this.#begin(wire, own, proof);
      this.#opening = line;
      const opened = await within(LINK_CONNECT_TIMEOUT, line.endpoint.opened);
      if (opened?.value) {
        this.ctx.storage.kv.put(WAY, name);
        await this.#setAlarm(line);
      }
      this.#opening = undefined;
      // The connection may have ended right after it opened.
      if (opened?.value && this.#line === line) {
        this.#observe(present("connected"));
        return "connected";
      }
      // A connection that the endpoint has ended still sends why, so it is not closed here.
      if (opened === undefined) this.#over(line);
      else if (this.#line === line) this.#line = undefined;
      rest = Math.max(rest, restOf(line));
      failure = { why: "ConnectionClosed", reason: line.endpoint.refusal };
      if (failure.reason !== undefined) this.#tell(failure.reason, name);
    }
    await this.#retry(failure, rest);
    return failure.why;
  }

  /** Logs why a relay that was reached is not linked. */
  #tell(reason: Reason, way: string): void {
    logReason("warn", reason, { relay: this.#relay, way });
  }

  /** The allowed ways to the relay, the one that worked last first; or why it may not be dialled at all. */
  #ways(): readonly NamedWay[] | Failure {
    const allowed = allowedLink(this.#relay, this.env, this.#lastWay);
    if (allowed.type === "allowed") return allowed.ways;
    tellRefusal(this.#relay, allowed);
    return { why: "HostNotReachable", reason: allowed.reason };
  }

  /** Opens a channel to the relay by one way, or returns why that failed. */
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
      serverHost: splitHostPort(name).host,
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
    // A relay that does not read the last output gets LINK_DRAIN to do so.
    const late = endpoint.over.then(() => scheduler.wait(LINK_DRAIN));
    this.ctx.waitUntil(
      Promise.race([pumps, late]).then(async () => {
        const ours = this.#line === line;
        this.#over(line);
        if (!ours || this.#opening === line) return;
        // The back-off starts anew only if the connection was useful or lasted: a relay may end every connection at
        // once.
        if (endpoint.progressed || this.now() - line.since >= LINK_RETRY_LAST) this.ctx.storage.kv.delete(FAILED);
        // A used connection may have lost messages in flight, so the link is still wanted. An unused one proves
        // nothing.
        if (line.uses > 0) this.#wantedAt = Math.max(this.#wantedAt, line.usedAt);
        await this.#retry({ why: "ConnectionClosed" }, restOf(line));
      }),
    );
    return line;
  }

  /** Ends a connection in order: sends nothing new, and waits up to {@link LINK_DRAIN} for what is in flight. */
  async #rest(line: Line): Promise<void> {
    line.endpoint.pause();
    for (let waited = 0; waited < LINK_DRAIN && !line.endpoint.idle; waited += LINK_DRAIN / 50) {
      await scheduler.wait(LINK_DRAIN / 50);
    }
    if (this.#line === line) this.#line = undefined;
    this.ctx.storage.kv.delete(FAILED);
    this.#observe(ABSENT);
    line.endpoint.rest();
  }

  #over(line: Line): void {
    if (this.#line === line) this.#line = undefined;
    line.endpoint.close();
    line.wire.close();
  }

  /**
   * Stores a failure, and sets the alarm for the next try.
   *
   * @param rest seconds for which the relay, or a proxy before it, asks not to be called
   */
  async #retry({ why, reason }: Failure, rest: number): Promise<void> {
    const { failures = 0, wanted = 0 } = this.#failed ?? {};
    const limit = Math.min(LINK_RETRY_FIRST * 2 ** failures, LINK_RETRY_LAST);
    // Full jitter, so that a relay that comes back is not met by all its edges at once.
    const since = this.now();
    const rested = since + Math.min(rest * 1000, LINK_REST_LAST);
    const at = rested + Math.random() * limit;
    const lastWanted = Math.max(wanted, this.#wantedAt);
    const failed: Failed = { failures: failures + 1, at, why, reason, wanted: lastWanted, since, rest: rested };
    this.ctx.storage.kv.put(FAILED, failed);
    this.#observe(present("failed"));
    await this.ctx.storage.setAlarm(at);
  }

  async #setAlarm({ since, usedAt }: Line): Promise<void> {
    const life = since + LINK_LIFE;
    if (this.#kept) return this.ctx.storage.setAlarm(life);
    // A link that is past its idle time and not closed has something in flight: check again later.
    const idle = usedAt + LINK_IDLE;
    const now = this.now();
    await this.ctx.storage.setAlarm(Math.min(life, idle > now ? idle : now + LINK_IDLE));
  }

  get #host(): EndpointContext {
    return {
      name: this.#relay,
      mailbox: (peer) => this.env.MAILBOX.getByName(peer),
      consumer: (name) => consumerIn(this.env, name),
      remote: () => undefined,
      recipients: LINK_RECIPIENTS,
      messageLimit: messageLimit(this.env.QUOTA ?? ""),
      trust: () => undefined,
      // A relay serves many devices; its own operator limits them.
      throttle: () => undefined,
      arrived: () => undefined,
      // The operator has chosen the relay, so its messages need no token.
      authenticator: tokenAuthenticator(this.env, () => undefined),
      standing: UNQUESTIONED,
      owner: ANYBODY,
      waitUntil: (promise) => this.ctx.waitUntil(promise),
    };
  }
}

/** Seconds for which the relay, or a proxy before it, asks not to be called. */
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
