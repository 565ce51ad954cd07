/**
 * SstpEndpoint: terminates SSTP at this edge. It runs the engine in the relay role, between the byte stream of one
 * peer, a device or an origin relay, and the mailboxes.
 *
 *   bytes ─► engine ─► InboundMessages ─► Mailbox.append ─► acknowledgement ─► bytes
 *   Mailbox.deliver ─► OutboundMessages ─► engine ─► bytes ─► acknowledged ─► Mailbox.acknowledge
 *
 * It has the interface of an origin relay's socket, so the Tunnel need not know which of the two it carries bytes to.
 *
 * @module
 */

import type { ConnectDecision } from "../../auth/permissions.ts";
import { ANYBODY, isSame, NOBODY, type Principal } from "../../auth/principal.ts";
import { AcceptorProof, type DiallerProof, relayNamed } from "../../auth/relay-proof.ts";
import { addressee } from "../../auth/scopes.ts";
import { Condition } from "../../lib/condition.ts";
import { free } from "../../lib/octets.ts";
import { byteReader, READ_SIZE } from "../../lib/runtime/byte-reader.ts";
import { DeadlinePool } from "../../lib/runtime/deadline-pool.ts";
import { promptly, sleep, within } from "../../lib/runtime/timeout.ts";
import { bucket, charge } from "../../lib/token-bucket.ts";
import {
  accountOf,
  CloseReasonId,
  ConnectCloseReasonId,
  Connection,
  type ConnectionEvent,
  type ConnectionSnapshot,
  ConnectResponseId,
  type FanoutDeviceEntry,
  identityURL,
  isMultidrop,
  isOriginResource,
  isPeer,
  isRelay,
  SessionStatusId,
  wholeCommands,
} from "../../sstp/index.ts";
import { formatCapabilities, parseCapabilities } from "../../store-and-forward/capabilities.ts";
import { WAKES } from "../admission/limits.ts";
import type { Throttle } from "../admission/throttle.ts";
import type { ByteChannel, Inflow } from "../byte-channel.ts";
import { logError } from "../log.ts";
import { isReason, type Reason } from "../reasons.ts";
import { BULK_IDLE } from "../rpc/doorbell-protocol.ts";
import type { Delivery, Taken } from "../rpc/mailbox-rpc.ts";
import type { MessageBatch } from "../rpc/message-batch.ts";
import type { Entrance } from "../rpc/meter-rpc.ts";
import { EgressClient } from "./egress-client.ts";
import type { EndpointContext } from "./endpoint-context.ts";
import { InboundMessages, type InboundSnapshot } from "./inbound-messages.ts";
import {
  ATTACH_MESSAGES,
  COMMAND_OCTETS,
  CONNECT_PATIENCE,
  CONSUMED_MAILBOXES,
  DECISION_RETRY,
  DECISION_TIMEOUT,
  HELD_OCTETS,
  LINK_KEEP_ALIVE,
  LINK_RECEIVE_TIMEOUT,
  UNFINISHED_PAUSE,
  UNSTORED_MESSAGES,
  UNTAKEN_OCTETS,
  UNTAKEN_TIMEOUT,
} from "./limits.ts";
import { OutboundMessages, type OutboundSnapshot } from "./outbound-messages.ts";

/** A quiet endpoint as plain data. */
export interface SstpEndpointSnapshot {
  readonly engine: ConnectionSnapshot;
  readonly source: string;
  /** Whether the peer declares that it vouches for its devices. */
  readonly vouched: boolean;
  /** Whether the device has declared that it takes no messages. */
  readonly sendOnly: boolean;
  readonly principal: Principal;
  readonly intake: InboundSnapshot;
  readonly outlet: OutboundSnapshot;
  readonly answersUnread: number;
}

/** Which side of the connection the edge is. */
export interface Side {
  /** The URLs by which the peer may address this edge, and by which the edge introduces itself. */
  readonly localDeviceURLs: readonly string[];
  /** The origin relay that the edge has connected to; absent if the peer has connected to the edge. */
  readonly relay?: string;
  /** What that relay must prove before anything is exchanged with it. */
  readonly proof?: DiallerProof | undefined;
}

export class SstpEndpoint implements ByteChannel {
  readonly #host: EndpointContext;
  readonly #side: Side;
  readonly #engine: Connection;
  readonly #inbound: InboundMessages;
  readonly #outbound: OutboundMessages;
  #source: string;
  /** Whether the peer declares that it vouches for its devices. */
  #vouched: boolean;
  /** Whether the device has declared that it takes no messages. */
  #sendOnly: boolean;
  /** Output not yet taken. */
  #blocks: Uint8Array[] = [];
  readonly #opened = Promise.withResolvers<boolean>();
  readonly #over = Promise.withResolvers<void>();
  #ended = false;
  #endReason: Reason = "EdgeClosed";
  /** Notified when there is output, or the end. */
  readonly #output = new Condition();
  #answersUnread: number;
  #attached = false;
  /** Notified when the peer takes output. */
  readonly #taken = new Condition();
  #timer: ReturnType<typeof setTimeout> | undefined;
  #principal: Principal;
  /** Deadline for a device without a token to present one. */
  #patience: ReturnType<typeof setTimeout> | undefined;
  /** Number of pending decisions. */
  #deciding = 0;
  /** The pending decision about the Connect or a proof. Nothing more is read until it is made. */
  #connecting: Promise<void> | undefined;
  /** Events that arrived together with a proof that is being checked. */
  #behind: ConnectionEvent[] | undefined;
  /** The proof that a relay and this side owe each other. Until both have given it, nothing is exchanged. */
  #proof:
    | { readonly dialler: DiallerProof }
    | { readonly acceptor: AcceptorProof; readonly source: string }
    | undefined;
  #refusal: Reason | undefined;
  /** Counts events in either direction, other than signs of life. */
  #uses = 0;
  /** Bytes held back until the decision about the Connect. */
  #held = 0;
  #throttle: Throttle | undefined;
  readonly #relayWakes = bucket(WAKES, WAKES, Date.now());
  /** Messages received whole, and other work, counted as messages. */
  #messages = 0;
  /** Calls whose bytes are taken, during which the device is not read. */
  #writing = 0;
  #judging = false;

  constructor(host: EndpointContext, { localDeviceURLs, relay, proof }: Side, snapshot?: SstpEndpointSnapshot) {
    const options = {
      role: "relay",
      outbound: relay !== undefined,
      localDeviceURLs,
      now: Date.now(),
      multidropSupported: true,
      // A message passes one other relay at most: what comes from a relay is for peers of this edge.
      singleHopSupported: relay === undefined,
      capabilities: formatCapabilities(host.messageLimit, host.egress !== undefined),
      ...(relay !== undefined && { keepAlive: LINK_KEEP_ALIVE, receiveTimeout: LINK_RECEIVE_TIMEOUT }),
    } as const;
    this.#host = host;
    this.#side = { localDeviceURLs, ...(relay !== undefined && { relay }) };
    this.#engine = snapshot === undefined ? new Connection(options) : Connection.restore(snapshot.engine, options);
    this.#answersUnread = snapshot?.answersUnread ?? 0;
    this.#source = snapshot?.source ?? relay ?? "";
    this.#vouched = snapshot?.vouched ?? false;
    this.#sendOnly = snapshot?.sendOnly ?? false;
    this.#principal = snapshot?.principal ?? host.owner;
    if (isSame(this.#principal, NOBODY)) this.#expectToken();
    if (this.#source !== "") this.#throttle = host.throttle(this.#source, this.#principal);
    this.#inbound = new InboundMessages(
      host,
      this.#engine,
      () => this.#changed(),
      {
        copies: (octets, messages) => this.#throttle?.spend(octets, messages),
        wake: () => (this.#throttle === undefined ? this.#paceRelay() : this.#throttle.wake()),
      },
      snapshot?.intake,
      host.egress && new EgressClient(host, (peer) => this.#outbound.generationOf(peer)),
    );
    this.#introduce();
    this.#outbound = new OutboundMessages(
      host,
      this.#engine,
      relay,
      () => this.#changed(),
      (peer) => this.#lost(peer),
      snapshot?.outlet,
    );
    if (proof !== undefined) this.#proof = { dialler: proof };
    if (relay !== undefined) this.#engine.connect(relay, proof?.hello);
  }

  /** The owner of the virtual connection, or the principal of the Connect's token. */
  get principal(): Principal {
    return this.#principal;
  }

  /** @param least bytes that are charged for at least */
  async write(octets: Uint8Array, least = 0): Promise<void> {
    if (!this.#host.standing.fresh() && !(await this.#judged())) return;
    // If the connection ends meanwhile, the decision has no effect.
    while (this.#connecting !== undefined && !this.#ended && this.#engine.closed === undefined) {
      await this.#hold(octets.length, this.#connecting);
    }
    await this.#receive(octets, least);
  }

  /** The same, but returns undefined if more may be written at once: a promise for each keystroke would delay it. */
  writeNow(octets: Uint8Array, least = 0): Promise<void> | undefined {
    const mayReceive = this.#connecting === undefined && this.#host.standing.fresh();
    return mayReceive ? this.#receive(octets, least) : this.write(octets, least);
  }

  /** Takes bytes. Resolves when more may be written; undefined: at once. */
  #receive(octets: Uint8Array, least: number): Promise<void> | undefined {
    const before = this.#messages;
    let commands = 0;
    this.#guarded(() => {
      const events = this.#engine.receive(octets, Date.now());
      commands = events.length;
      this.#handle(events);
    });
    const charged = Math.max(octets.length, commands * COMMAND_OCTETS, least);
    const paid = this.#guarded(() => this.#throttle?.spend(charged, this.#messages - before));
    if (paid === undefined && (this.#ended || !this.#mustPause)) return undefined;
    return this.#pause(paid);
  }

  /** Whether the device is not to be read for now, whatever its rate. */
  get #mustPause(): boolean {
    return this.#isBehind || this.#untaken > UNTAKEN_OCTETS || this.#inbound.mustWait(Date.now());
  }

  /** @param paid resolves when the device has paid for its bytes, which are already taken */
  async #pause(paid: Promise<void> | undefined): Promise<void> {
    this.#writing += 1;
    try {
      // A device that exceeds its rate is not read for a while.
      await paid;
      // The mailboxes are behind: the device is not read until they have caught up.
      while (!this.#ended && this.#isBehind) await this.#inbound.progress();
      while (!this.#ended && this.#inbound.mustWait(Date.now())) await sleep(UNFINISHED_PAUSE);
      if (this.#untaken > UNTAKEN_OCTETS) await this.#untilTaken();
    } catch (error) {
      this.#fail(error);
    } finally {
      this.#writing -= 1;
    }
  }

  /** Whether so much waits for mailboxes, or for the Tunnels of other devices, that the device is not read. */
  get #isBehind(): boolean {
    return this.#inbound.isBehind || this.#engine.unprocessed > UNSTORED_MESSAGES;
  }

  ready(): Promise<void> {
    if (this.#prepare() !== undefined) return Promise.resolve();
    return this.#output.wait();
  }

  /** Output goes only to a peer whose token has been judged of late. */
  peek(): Inflow | undefined {
    const [octets] = this.#blocks;
    if (octets !== undefined) return this.#host.standing.fresh() ? { kind: "octets", octets } : undefined;
    return this.#ended ? { kind: "ended", reason: this.#endReason } : undefined;
  }

  /** Makes the input that `peek` returns. A peer that has nothing to take need not be judged. */
  #prepare(): Inflow | undefined {
    this.#fill();
    const waiting = this.peek();
    if (waiting === undefined && this.#blocks.length > 0) this.#judge();
    return waiting;
  }

  /** No output is made until the last is taken: a peer that does not read must not accumulate it here. */
  #fill(): void {
    if (this.#blocks.length === 0) this.#guarded(() => this.#make());
  }

  #make(): void {
    const answers = this.#engine.pendingOctets;
    this.#outbound.fill();
    this.#answersUnread += answers;
    this.#blocks = this.#engine.output(Date.now());
  }

  /** Judges the peer; then waiting output is handed over. */
  #judge(): void {
    if (this.#judging) return;
    this.#judging = true;
    const judged = this.#judged().finally(() => {
      this.#judging = false;
    });
    this.#host.waitUntil(judged.then((may) => may && this.#changed()));
  }

  async #judged(): Promise<boolean> {
    this.#deciding += 1;
    try {
      return await this.#host.standing.judge();
    } finally {
      this.#deciding -= 1;
    }
  }

  /** Takes whole commands only: between two calls the stream is at a command boundary, where a Noop can be inserted. */
  take(max: number): Inflow | undefined {
    const waiting = this.#prepare();
    if (waiting?.kind !== "octets") return waiting;
    const length = wholeCommands(waiting.octets, max);
    if (length === waiting.octets.length) this.#blocks.shift();
    else this.#blocks[0] = waiting.octets.subarray(length);
    this.#taken.notifyAll();
    return { kind: "octets", octets: waiting.octets.subarray(0, length) };
  }

  async pipeFrom(stream: ReadableStream<Uint8Array>): Promise<void> {
    const read = byteReader(stream, READ_SIZE);
    for (let octets = await read(); typeof octets !== "string"; octets = await read()) await this.write(octets);
  }

  /** Ends at the first pause. Then the object may hibernate, and the doorbell rings again. */
  async pipeTo(stream: WritableStream<Uint8Array>): Promise<void> {
    const writer = stream.getWriter();
    const idle = new DeadlinePool(BULK_IDLE);
    const write = async (octets: Uint8Array) => {
      const isLast = this.#blocks[0]?.buffer !== octets.buffer;
      await writer.write(octets);
      // The garbage collector would come too late for blocks of bulk data.
      if (isLast) free(octets.buffer);
    };
    // While one block is on its way, the next is made.
    let before: Promise<void> | undefined;
    while ((await idle.within(this.ready())) !== undefined) {
      if (this.peek()?.kind !== "octets") break;
      const taken = this.take(READ_SIZE);
      if (taken?.kind !== "octets") continue;
      const written = write(taken.octets);
      written.catch(() => undefined);
      await before;
      before = written;
    }
    await before;
    await writer.close();
  }

  /**
   * Sets whether the transport slows the output down to the device. Otherwise only the device's acknowledgements bound
   * what is streamed to it.
   */
  set paced(paced: boolean) {
    this.#outbound.paced = paced;
  }

  /** Whether the device has sent Connect and was accepted. */
  get connected(): boolean {
    return this.#engine.state === "established" && this.#proof === undefined;
  }

  /** URL by which the device has connected; empty before its Connect. */
  get source(): string {
    return this.#source;
  }

  /** Ends the virtual connection. */
  close(): void {
    clearTimeout(this.#timer);
    clearTimeout(this.#patience);
    this.#engine.transportLost();
    this.#end();
  }

  /** Await this before a call of a mailbox is handled. Undefined if that can be done in the same turn. */
  attaching(peer: string): Promise<unknown> | undefined {
    return this.#outbound.attaching(peer);
  }

  /** Delivers messages of a mailbox. */
  deliver(peer: string, generation: number, deliveries: readonly Delivery[], position: number): Taken {
    this.#uses += 1;
    return this.#guarded(() => this.#outbound.deliver(peer, generation, deliveries, position)) ?? "gone";
  }

  /** Takes what another device streams to this one: at once, or when there is room for it. */
  stream(peer: string, generation: number, bundle: MessageBatch): Taken | Promise<Taken> {
    this.#uses += 1;
    const failed = (error: unknown): Taken => {
      this.#fail(error);
      return "gone";
    };
    try {
      const taken = this.#outbound.stream(peer, generation, bundle);
      return taken instanceof Promise ? taken.catch(failed) : taken;
    } catch (error) {
      return failed(error);
    }
  }

  /** Gives up a mailbox that another connection now consumes. Returns true if this one stays and would take it back. */
  fenced(peer: string, generation: number): boolean {
    return this.#guarded(() => this.#outbound.cede(peer, generation) && this.#engine.closed === undefined) ?? false;
  }

  /**
   * Resumes the sessions that were suspended for a mailbox, which has room again.
   *
   * @param upTo the mailbox's last message at the time
   * @param sender who has room again; undefined for all
   */
  room(peer: string, upTo: number, sender?: string): void {
    this.#guarded(() => {
      if (this.#engine.state !== "established") return;
      this.#inbound.room(peer, upTo, sender);
      this.#changed();
    });
  }

  /** The device's Egress has lost its memory, and with it the device's connections to destinations. */
  egressLost(): void {
    this.#guarded(() => {
      if (this.#engine.state !== "established") return;
      this.#inbound.egressLost();
      this.#changed();
    });
  }

  /** Tells the other ends of the device's channels that its token has ended; undefined if it has no channels. */
  get channelsEnding(): (() => Promise<void>) | undefined {
    return this.#inbound.channelsEnding;
  }

  /** Takes back a mailbox that has lost its consumer. Returns false if this connection does not. */
  recall(peer: string): boolean {
    return this.#guarded(() => this.#outbound.recall(peer)) ?? false;
  }

  /** A device has one connection: the older one is dead, or about to be replaced. An identity may have several. */
  #lost(peer: string): void {
    if (peer === this.#source) this.#engine.close(ConnectCloseReasonId.CrossedConnections);
    this.#changed();
  }

  /** Whether the stream from the device is between two commands, and nothing waits here to be sent or stored. */
  get #quiet(): boolean {
    if (this.#deciding > 0 || this.#writing > 0 || this.#timer !== undefined || this.#proof !== undefined) return false;
    return this.#inbound.quiet && this.#outbound.quiet && this.#blocks.length === 0 && !this.#ended;
  }

  /** The state to resume from; undefined unless quiet. */
  snapshot(): SstpEndpointSnapshot | undefined {
    this.#outbound.settle();
    this.#fill();
    if (!this.#quiet) return undefined;
    return {
      engine: this.#engine.snapshot(),
      source: this.#source,
      vouched: this.#vouched,
      sendOnly: this.#sendOnly,
      principal: this.#principal,
      intake: this.#inbound.snapshot(),
      outlet: this.#outbound.snapshot(),
      answersUnread: this.#answersUnread,
    };
  }

  #handle(events: readonly ConnectionEvent[]): void {
    if (events.some(({ type }) => !OF_CONNECTION.includes(type))) this.#uses += 1;
    for (const event of events) {
      if (this.#behind === undefined) this.#on(event);
      else this.#behind.push(event.type === "data" ? { ...event, octets: event.octets.slice() } : event);
    }
    this.#inbound.flush();
    this.#changed();
  }

  /** Handles an event. Later bytes may already have ended its session, or the connection. */
  #on(event: ConnectionEvent): void {
    if (this.#proof !== undefined && !OF_CONNECTION.includes(event.type)) {
      this.#unproven();
      return;
    }
    switch (event.type) {
      case "connect": {
        if (this.#engine.state !== "connecting") break;
        const { vouched, sendOnly } = parseCapabilities(event.productCapabilities);
        this.#vouched = vouched;
        // Relays exchange messages in both directions.
        this.#sendOnly = sendOnly && !event.sourceDeviceURLs.some(isRelay);
        if (this.#challenge(event)) break;
        this.#await(this.#host.authenticator.connect(this.#principal, event), (decision) => {
          if (this.#engine.state === "connecting") this.#connect(event.sourceDeviceURLs, decision);
        });
        break;
      }
      case "connected":
        this.#vouched = parseCapabilities(event.productCapabilities).vouched;
        this.#introduce();
        if (this.#proof === undefined) this.#serveRelay();
        else this.#prove(event.token);
        break;
      case "connectAuthenticate":
        this.#checkProof(event.token);
        break;
      case "refused": {
        const said = new TextDecoder().decode(event.token);
        if (isReason(said)) this.#refusal = said;
        break;
      }
      case "attach":
        this.#attach(event);
        break;
      case "register": {
        this.#messages += 1;
        const session = this.#engine.session(event.eventId);
        if (session === undefined) break;
        void this.#decide(this.#host.authenticator.register(this.#principal, event), (may) => {
          if (this.#engine.session(event.eventId) !== session) return;
          if (may) this.#engine.acceptRegister(event.eventId);
          else this.#engine.closeSession(event.eventId, refusalOf(may, CloseReasonId.DeviceAuthenticationFailed));
        });
        break;
      }
      case "open":
        this.#messages += 1;
        this.#open(event, [{ ...event, relayURL: "" }], false);
        break;
      case "fanoutOpen":
        this.#messages += event.entries.length;
        this.#open(event, event.entries, true);
        break;
      case "message":
        this.#inbound.begin(event.sessionId, event.fields);
        break;
      case "data":
        this.#inbound.data(event.sessionId, event.octets);
        break;
      case "endMessage":
        this.#messages += 1;
        this.#inbound.end(event.sessionId, event.message);
        break;
      case "sessionClosed":
        if (event.kind === "inbound") this.#inbound.close(event.sessionId);
        else this.#outbound.sessionLost(event.sessionId, event.unacknowledged, event.reasonId);
        break;
      case "sessionState":
        this.#outbound.sessionState(event.sessionId, event.state);
        break;
      case "sessionStatus":
        this.#outbound.recipientsRefused(event.sessionId, event.indexes.length);
        if (event.remaining === 0) {
          this.#outbound.nobodyLeft(event.sessionId, event.statusId === SessionStatusId.LockedOut);
        }
        break;
      case "sessionRefused":
        this.#outbound.sessionLost(event.sessionId, event.unacknowledged);
        break;
      case "acknowledged":
        this.#answersUnread = 0;
        this.#outbound.acknowledged(event.messages);
        break;
      case "closed":
        // A peer that announced its end is sent nothing more.
        if (event.by === "peer") this.#endReason = "DeviceGone";
        this.#end();
        break;
    }
  }

  /** Starts serving the origin relay that the edge has connected to. */
  #serveRelay(): void {
    if (this.#side.relay !== undefined) this.#opened.resolve(this.#outbound.consume(this.#side.relay));
  }

  /**
   * Challenges a relay. It must prove its identity if there is a secret for its name, or if tokens are required, since
   * a relay has none. Returns false for a device, and for a relay that needs no proof.
   */
  #challenge(event: Extract<ConnectionEvent, { type: "connect" }>): boolean {
    const { sourceDeviceURLs, targetDeviceURL, token } = event;
    if (!sourceDeviceURLs.some(isRelay)) return false;
    // A relay speaks for itself alone. A second name beside its own would give it that name's messages.
    const source = sourceDeviceURLs.length === 1 ? relayNamed(sourceDeviceURLs[0] ?? "") : undefined;
    const acceptor = relayNamed(targetDeviceURL);
    const trust = source === undefined ? undefined : this.#host.trust(source);
    if (source === undefined || acceptor === undefined || source === acceptor) return this.#refuseRelay();
    if (trust?.type !== "secrets") return isSame(this.#principal, ANYBODY) ? false : this.#refuseRelay();
    this.#await(AcceptorProof.begin(trust.secrets, { dialler: source, acceptor }, token), (proof) => {
      if (this.#engine.state !== "connecting") return;
      if (proof === undefined) {
        this.#refuseRelay();
        return;
      }
      this.#proof = { acceptor: proof, source };
      this.#engine.acceptConnect({ token: proof.challenge });
      this.#expectToken();
    });
    return true;
  }

  #refuseRelay(): true {
    this.#refusal = "RelayNotProven";
    this.#engine.refuseConnect(ConnectResponseId.AuthenticationFailed, 0, new TextEncoder().encode("RelayNotProven"));
    return true;
  }

  /** Checks the origin relay's proof, and answers with this side's. */
  #prove(challenge: Uint8Array): void {
    if (this.#proof === undefined || !("dialler" in this.#proof)) return;
    this.#check(this.#proof.dialler.answer(challenge.slice()), (answer) => {
      if (answer === undefined) return false;
      this.#engine.connectAuthenticate(answer);
      this.#serveRelay();
      return true;
    });
  }

  #checkProof(token: Uint8Array): void {
    if (this.#proof === undefined || !("acceptor" in this.#proof)) return;
    const { acceptor, source } = this.#proof;
    this.#check(acceptor.verify(token.slice()), (good) => {
      if (good !== true) return false;
      clearTimeout(this.#patience);
      // It has no token and needs none: all relays may address the same peers.
      this.#principal = ANYBODY;
      this.#source = source;
      this.#introduce();
      this.#host.arrived();
      void this.#outbound.consume(source);
      return true;
    });
  }

  /** Acts on the result of a proof, then on the events that arrived with it. */
  #check<T>(result: Promise<T>, act: (result: T | undefined) => boolean): void {
    this.#behind = [];
    this.#await(result, (outcome) => {
      const behind = this.#behind ?? [];
      this.#behind = undefined;
      this.#proof = undefined;
      if (!act(outcome)) this.#unproven();
      else for (const event of behind) this.#on(event);
    });
  }

  #unproven(): void {
    this.#refusal = "RelayNotProven";
    this.#engine.close(ConnectCloseReasonId.ProtocolError);
    this.#changed();
  }

  /** Sets the sender of the messages. Without tokens, each source counts as a separate principal. */
  #introduce(): void {
    const { id } = this.#principal;
    const owner = isSame(this.#principal, ANYBODY) ? `source:${this.#source}` : `principal:${id}`;
    this.#inbound.introduce(this.#source, this.#vouched, owner);
  }

  #connect(sourceDeviceURLs: readonly string[], decision: ConnectDecision | undefined): void {
    if (decision === undefined) {
      this.#engine.refuseConnect(ConnectResponseId.TryLater, DECISION_RETRY);
      return;
    }
    if (decision.type === "refused") {
      const { responseId, reason } = decision;
      const retry = responseId === ConnectResponseId.TryLater ? DECISION_RETRY : 0;
      // SSTP has the security layer give the reason in the answer's token.
      this.#engine.refuseConnect(responseId, retry, new TextEncoder().encode(reason));
      return;
    }
    clearTimeout(this.#patience);
    const { principal } = decision;
    const consumes = decision.consumes && !this.#sendOnly;
    this.#principal = principal;
    const throttle = this.#host.throttle(sourceDeviceURLs[0] ?? "", principal);
    if (throttle === undefined) this.#accept(sourceDeviceURLs, consumes);
    else {
      this.#throttle = throttle;
      this.#await(this.#enter(throttle), (entrance) => {
        if (this.#engine.state !== "connecting") return;
        // If the meter is unreachable, the connection is accepted.
        if (entrance === undefined || entrance.ok) this.#accept(sourceDeviceURLs, consumes);
        else this.#engine.refuseConnect(ConnectResponseId.TryLater, entrance.retryAfter);
      });
    }
  }

  /**
   * Counts the connection. A principal with too many virtual connections, or too many new ones, gets a time to retry.
   */
  async #enter(throttle: Throttle): Promise<Entrance> {
    const entrance = await throttle.enter();
    // The connection may have left before it entered.
    if (this.#ended) await throttle.leave();
    return entrance;
  }

  /** Awaits a decision about the Connect. Nothing more is read until it is made. */
  #await<T>(decision: T | Promise<T>, act: (decision: T | undefined) => void): void {
    const deciding = this.#decide(decision, (outcome) => {
      this.#connecting = undefined;
      act(outcome);
    });
    if (deciding !== undefined) this.#connecting = deciding;
  }

  #accept(sourceDeviceURLs: readonly string[], consumes: boolean): void {
    if (consumes && sourceDeviceURLs.length > CONSUMED_MAILBOXES) {
      const reason: Reason = "TooManyMailboxes";
      this.#engine.refuseConnect(ConnectResponseId.ConnectRejected, 0, new TextEncoder().encode(reason));
      return;
    }
    this.#engine.acceptConnect();
    this.#source = sourceDeviceURLs[0] ?? "";
    this.#introduce();
    this.#host.arrived();
    if (consumes) for (const url of sourceDeviceURLs) void this.#outbound.consume(url);
  }

  #attach(event: Extract<ConnectionEvent, { type: "attach" }>): void {
    const session = this.#engine.session(event.eventId);
    // The Connect pays for the first. A session closed in the same bytes costs little, but not nothing.
    if (this.#attached) this.#messages += session === undefined ? 1 : ATTACH_MESSAGES;
    this.#attached = true;
    if (session === undefined) return;
    // An origin relay has a mailbox of its own, and may not attach to those of accounts here.
    const account = isRelay(this.#source) || this.#sendOnly ? undefined : accountOf(event.accountURL);
    const may = account && this.#host.authenticator.attach(this.#principal, { ...account, token: event.token });
    void this.#decide(may ?? false, (decision) => {
      if (this.#engine.session(event.eventId) !== session) return;
      if (decision && account !== undefined) {
        const peer = identityURL(account);
        if (!this.#outbound.consumes(peer) && this.#outbound.mailboxes >= CONSUMED_MAILBOXES) {
          this.#engine.closeSession(event.eventId, CloseReasonId.QuotaWouldBeExceeded);
          return;
        }
        this.#engine.acceptAttach(event.eventId);
        void this.#outbound.consume(peer);
      } else {
        this.#engine.closeSession(event.eventId, refusalOf(decision, CloseReasonId.UserAuthenticationFailed));
      }
    });
  }

  #open(
    { sessionId, resourceURL }: { readonly sessionId: number; readonly resourceURL: string },
    entries: readonly FanoutDeviceEntry[],
    fanout: boolean,
  ): void {
    const session = this.#engine.session(sessionId);
    if (session === undefined) return;
    if (isOriginResource(resourceURL) && (fanout || !entries.every((entry) => this.#mayReachOrigins(entry)))) {
      if (fanout) this.#engine.closeSession(sessionId, CloseReasonId.DeviceAuthenticationFailed);
      else this.#engine.setAvailability(sessionId, "fault");
      return;
    }
    const decision = this.#host.authenticator.open(this.#principal, { resourceURL, entries });
    void this.#decide(decision, (refused) => {
      if (this.#engine.session(sessionId) !== session) return;
      // A message that no peer could read may not be sent.
      const nobodys = entries.flatMap((entry, i) => (this.#isAddressable(entry) ? [] : [i]));
      if (refused === undefined) this.#engine.closeSession(sessionId, CloseReasonId.InternalError);
      else if (!fanout && refused.length + nobodys.length > 0) this.#engine.setAvailability(sessionId, "fault");
      else {
        const locked = new Set([...refused, ...nobodys]);
        const targets = entries.slice(0, this.#host.recipients).map((entry) => this.#target(entry));
        const surplus = [...entries.keys()].slice(targets.length).filter((i) => !locked.has(i));
        const unreachable = [...targets.keys()].filter((i) => targets[i] === undefined && !locked.has(i));
        this.#engine.setAvailability(sessionId, "ready");
        const known = targets.map((target, i) => target ?? (entries[i] as FanoutDeviceEntry));
        this.#inbound.open(sessionId, this.#source, resourceURL, known, fanout);
        this.#inbound.fail(sessionId, [...locked], "locked");
        this.#inbound.fail(sessionId, surplus, "recipients");
        this.#inbound.fail(sessionId, unreachable, "HostNotReachable");
      }
    });
  }

  /**
   * Whether a session may carry the device's channel to destinations. It is addressed to the device itself, which gets its
   * answers by its mailbox's consumer: this connection.
   */
  #mayReachOrigins(entry: FanoutDeviceEntry): boolean {
    const isOwn = entry.deviceURL === this.#source && addressee(entry) !== undefined;
    return this.#host.egress !== undefined && isOwn && this.#outbound.consumes(this.#source);
  }

  /** Whether an entry may be addressed. A relay may address peers of this edge, a device also other vendors' names. */
  #isAddressable(entry: FanoutDeviceEntry): boolean {
    if (isRelay(this.#source)) return addressee(entry) !== undefined;
    return isPeer(entry.identityURL) && (entry.deviceURL === "" || isPeer(entry.deviceURL));
  }

  /**
   * Resolves an entry. Peers of this edge are served here, others through their relay's mailbox; undefined if the edge
   * may not connect to that relay.
   */
  #target(entry: FanoutDeviceEntry): FanoutDeviceEntry | undefined {
    if (isMultidrop(entry, this.#side.localDeviceURLs)) return { ...entry, relayURL: "" };
    // From a relay, this would be a second hop.
    const relayURL = isRelay(this.#source) ? undefined : this.#host.remote(entry.relayURL);
    return relayURL === undefined ? undefined : { ...entry, relayURL };
  }

  /**
   * Acts on a decision, at once if it is there. A decision that fails or times out is undefined. Things may have
   * changed by the time of a late one, so `act` must check; it is not called if the connection has ended.
   */
  #decide<T>(decision: T | Promise<T>, act: (decision: T | undefined) => void): Promise<void> | undefined {
    if (!(decision instanceof Promise)) {
      act(decision);
      return undefined;
    }
    const decided = async () => {
      const outcome = await promptly(DECISION_TIMEOUT, decision).catch(() => undefined);
      this.#deciding -= 1;
      if (this.#ended || this.#engine.closed !== undefined) return;
      this.#guarded(() => {
        act(outcome);
        this.#inbound.flush();
        this.#changed();
      });
    };
    this.#deciding += 1;
    const acted = decided();
    this.#host.waitUntil(acted);
    return acted;
  }

  /** Holds bytes back until the Connect is answered. A peer that sends too many breaks the protocol. */
  async #hold(octets: number, until: Promise<void>): Promise<void> {
    this.#held += octets;
    if (this.#held > HELD_OCTETS) {
      this.#engine.close(ConnectCloseReasonId.ProtocolError);
      this.#changed();
    }
    await until;
    this.#held -= octets;
  }

  #expectToken(): void {
    clearTimeout(this.#patience);
    this.#patience = setTimeout(() => {
      this.#endReason = "TokenNeeded";
      this.#engine.transportLost();
      this.#end();
    }, CONNECT_PATIENCE);
  }

  /** Resolves to true when messages go to the origin relay, to false when they will not. */
  get opened(): Promise<boolean> {
    return this.#opened.promise;
  }

  /** Resolves when the connection has ended. There may still be output to take. */
  get over(): Promise<void> {
    return this.#over.promise;
  }

  /** Seconds that the peer wants to be left alone [MS-GRVSSTP 3.1.5.1, 3.1.5.4]. */
  get returnTime(): number {
    return this.#engine.closed?.by === "peer" ? (this.#engine.closed.returnTime ?? 0) : 0;
  }

  /** Whether no more input or output will come. Remaining output may be taken. */
  get ended(): boolean {
    return this.#ended;
  }

  /** Bytes of output other than messages since the peer last acknowledged one. */
  get answersUnread(): number {
    return this.#answersUnread;
  }

  /** Why there is no connection, if one of the sides has said. */
  get refusal(): Reason | undefined {
    return this.#refusal;
  }

  /** Grows with every message, session event or acknowledgement in either direction, but not with a Noop. */
  get uses(): number {
    return this.#uses;
  }

  /** Whether a message was acknowledged, in either direction. */
  get progressed(): boolean {
    return this.#outbound.progressed || this.#inbound.progressed;
  }

  /** Stops starting messages to the peer. Those that have begun are finished. */
  pause(): void {
    this.#outbound.pause();
  }

  /** Whether nothing is in flight, to the peer or to a mailbox. */
  get idle(): boolean {
    return this.#outbound.idle && this.#inbound.quiet;
  }

  /**
   * Ends the connection cleanly: what has been processed is acknowledged.
   *
   * @param returnTime in how many seconds the peer should come back
   */
  rest(returnTime = 0): void {
    this.#engine.close(ConnectCloseReasonId.Resting, returnTime);
    this.#changed();
  }

  #end(): void {
    if (this.#ended) return;
    clearTimeout(this.#patience);
    this.#ended = true;
    this.#opened.resolve(false);
    this.#over.resolve();
    this.#output.notifyAll();
    this.#taken.notifyAll();
    // Each must learn of the end, even if another one fails.
    for (const tell of [
      () => this.#throttle !== undefined && this.#host.waitUntil(this.#throttle.leave()),
      () => this.#inbound.abandon(),
      () => this.#outbound.abandon(),
    ]) {
      try {
        tell();
      } catch (error) {
        logError(error);
      }
    }
    // The last output is handed over before the end is reported.
    this.#fill();
  }

  /**
   * Runs code that acts on the engine or the host. If it throws, the virtual connection ends with a reason: after half
   * an event, it would neither answer nor end.
   */
  #guarded<T>(act: () => T): T | undefined {
    try {
      return act();
    } catch (error) {
      this.#fail(error);
      return undefined;
    }
  }

  #fail(error: unknown): void {
    logError(error);
    this.abort("InternalError");
  }

  /** Ends the virtual connection for a reason on this side. The device may come again. */
  abort(reason: Reason): void {
    if (!this.#ended) this.#endReason = reason;
    try {
      this.#engine.close(ConnectCloseReasonId.Resting);
    } catch {
      this.#engine.transportLost();
    }
    this.#end();
  }

  /** Bytes of output that the peer has not taken. */
  get #untaken(): number {
    return this.#blocks.reduce((sum, { length }) => sum + length, this.#engine.pendingOctets);
  }

  /** Stops reading a peer that does not read, and gives it up if it takes nothing at all. */
  async #untilTaken(): Promise<void> {
    while (!this.#ended && this.#untaken > UNTAKEN_OCTETS) {
      if ((await within(UNTAKEN_TIMEOUT, this.#taken.wait())) === undefined) this.abort("OutputNotTaken");
    }
  }

  /** Paces relays, whose traffic is not metered by token or address: each may wake only so many mailboxes a second. */
  #paceRelay(): Promise<void> | undefined {
    if (!isRelay(this.#source)) return undefined;
    const waits = charge(this.#relayWakes, 1, Date.now());
    return waits === 0 ? undefined : sleep(waits);
  }

  /** Checks for output, and for a deadline. */
  #changed(): void {
    if (this.#engine.closed !== undefined) this.#end();
    if (this.#prepare() !== undefined) this.#output.notifyAll();
    const { deadline } = this.#engine;
    if (deadline === Number.POSITIVE_INFINITY || this.#ended || this.#timer !== undefined) return;
    // With a device this is only SSTP's acknowledgement timer: five seconds, then the object may hibernate. With a
    // relay it is also the Noop, but there the socket keeps the object in memory anyway.
    this.#timer = setTimeout(
      () => {
        this.#timer = undefined;
        this.#guarded(() => this.#handle(this.#engine.advance(Date.now())));
      },
      Math.max(0, deadline - Date.now()),
    );
  }
}

/** Events of the connection itself. Before both relays have proved themselves no others may come. */
const OF_CONNECTION: readonly ConnectionEvent["type"][] = [
  "connect",
  "connected",
  "connectAuthenticate",
  "refused",
  "closed",
];

/** Close reason of a security session: refused, or not decided. */
function refusalOf(may: boolean | undefined, reasonId: number): number {
  return may === undefined ? CloseReasonId.InternalError : reasonId;
}
