/**
 * One SSTP connection of the relay: runs the engine in the relay role between a socket, the store and the other peers.
 *
 *   socket ─► engine events ─► InboundMessages ─► store ─(commit)─► acknowledgement ─► socket
 *   OutboundMessages: queues that it consumes ─► engine ─► socket, within a window of unacknowledged data
 *
 * @module
 */

import type { Socket } from "node:net";
import { type Authenticator, type ConnectDecision, tokenAuthenticator } from "../auth/permissions.ts";
import { ANYBODY, NOBODY, type Principal } from "../auth/principal.ts";
import { AcceptorProof, relayNamed } from "../auth/relay-proof.ts";
import { addressee } from "../auth/scopes.ts";
import type { TokenProblem } from "../auth/token-problems.ts";
import { Standing } from "../auth/token-recheck.ts";
import type { TokenSettings } from "../auth/verify-token.ts";
import { isLoopback } from "../lib/near-address.ts";
import { printable } from "../lib/printable.ts";
import { type Bucket, bucket, charge } from "../lib/token-bucket.ts";
import {
  accountOf,
  CloseReasonId,
  ConnectCloseReasonId,
  Connection,
  type ConnectionEvent,
  ConnectResponseId,
  identityURL,
  isMultidrop,
  isPeer,
  isRelay,
  MAX_SHORT_COMMAND_OCTETS,
  SessionStatusId,
} from "../sstp/index.ts";
import { formatCapabilities, parseCapabilities } from "../store-and-forward/capabilities.ts";
import type { ReasonName } from "../store-and-forward/reason-advice.ts";
import type { Consumer, Hub } from "./hub.ts";
import { InboundMessages } from "./inbound-messages.ts";
import {
  ANSWER_QUEUE,
  CONNECT_TIMEOUT,
  DECISION_RETRY,
  KEEP_ALIVE,
  LINGER,
  QUEUES,
  RECEIVE_TIMEOUT,
  RECIPIENTS,
  WORK_BURST,
  WORK_PAUSE,
  WORK_RATE,
} from "./limits.ts";
import { OutboundMessages } from "./outbound-messages.ts";
import type { Volatile } from "./stored-queue.ts";

/** Settings shared by all connections of a relay. */
export interface ConnectionSettings {
  readonly localDeviceURLs: readonly string[];
  readonly messageLimit: number;
  /** How tokens are verified; undefined if none are required. */
  readonly tokens: TokenSettings | undefined;
}

export class PeerConnection implements Consumer {
  readonly #hub: Hub;
  readonly #socket: Socket;
  readonly #engine: Connection;
  readonly #localDeviceURLs: readonly string[];
  readonly #intake: InboundMessages;
  readonly #delivery: OutboundMessages;
  /** URLs of the peers whose queues it consumes. */
  readonly #peers = new Set<string>();
  #source = "";
  #timer: NodeJS.Timeout | undefined;
  #timerAt = Number.POSITIVE_INFINITY;
  readonly #connectBy: number;
  /** Whether the peer vouches for its devices. */
  #vouched = false;
  /** Whether the device has declared that it takes no messages. */
  #sendOnly = false;
  /** Set while a relay has yet to prove itself. Until then nothing is accepted from it or delivered to it. */
  #proof: { readonly proof: AcceptorProof; readonly source: string } | undefined;
  /** Events received while a decision about the connection is pending. */
  #behind: ConnectionEvent[] | undefined;
  /** Too much waits to be read by the peer. Reading is paused until the socket drains. */
  #crowded = false;
  /** Too much of what the peer streams waits for others. Reading is paused until that has left. */
  #heldBack = false;
  /** Budget of work the peer may cause. */
  readonly #work: Bucket;
  /** Set while reading is paused because the budget is used up. */
  #resting: NodeJS.Timeout | undefined;
  /** The authenticated principal. `#standing` tells whether it may still be served. */
  #principal: Principal;
  readonly #standing: Standing;
  readonly #authenticator: Authenticator;
  #over = false;
  /** When the peer last sent bytes or drained its socket queue. */
  #lastSign: number;

  constructor(hub: Hub, socket: Socket, { localDeviceURLs, messageLimit, tokens }: ConnectionSettings) {
    this.#hub = hub;
    this.#socket = socket;
    this.#principal = tokens === undefined ? ANYBODY : NOBODY;
    // Nothing waits for a renewed judgement.
    this.#standing = new Standing(
      tokens ?? {},
      (renewal) => void renewal.catch(() => undefined),
      (reason) => this.#evict(reason),
    );
    this.#authenticator = tokenAuthenticator(tokens ?? {}, (principal, asOf) => this.#standing.show(principal, asOf));
    const now = Date.now();
    this.#lastSign = now;
    this.#connectBy = now + CONNECT_TIMEOUT;
    this.#work = bucket(WORK_RATE, WORK_BURST, now);
    this.#engine = new Connection({
      role: "relay",
      outbound: false,
      localDeviceURLs,
      now,
      keepAlive: KEEP_ALIVE,
      receiveTimeout: RECEIVE_TIMEOUT,
      multidropSupported: true,
      singleHopSupported: true,
      capabilities: formatCapabilities(messageLimit),
    });
    this.#localDeviceURLs = localDeviceURLs;
    this.#intake = new InboundMessages(hub, this.#engine, {
      messageLimit,
      suspended: (peer) => hub.suspend(peer, this),
      progressed: () => hub.settleLater(this),
    });
    this.#delivery = new OutboundMessages(hub, this.#engine, {
      socketQueue: () => this.#socket.writableLength,
      // Give other connections a turn first.
      pumpLater: () => this.#hub.settleLater(this),
    });
    socket.on("data", (octets: Buffer) => {
      const now = Date.now();
      this.#lastSign = now;
      this.#guarded(() => this.#handle(this.#engine.receive(octets, now)));
    });
    socket.on("drain", () => {
      this.#lastSign = Date.now();
      this.#crowded = false;
      this.#readOn();
      this.pump();
    });
    const gone = () => this.#guarded(() => this.#gone());
    socket.on("error", gone);
    // The peer sends no more, so acknowledgements are pointless; what it has sent is still settled.
    socket.on("end", gone);
    socket.on("close", gone);
    this.#setTimer();
  }

  get source(): string {
    return this.#source;
  }

  /** A peer that is not being read cannot show signs of life. */
  get lastSign(): number {
    return this.#behind === undefined && !this.#heldBack ? this.#lastSign : Date.now();
  }

  owes(peer: string): boolean {
    return this.#delivery.owes(peer);
  }

  /** Called after the commit: acknowledges stored messages and reports refused ones. */
  settle(): void {
    this.#guarded(() => {
      this.#intake.settle();
      if (this.#heldBack && !this.#intake.isBehind) {
        this.#heldBack = false;
        this.#readOn();
      }
      if (this.#engine.closed === undefined) this.#pump();
      else this.#end();
    });
  }

  /** Delivers what the window and socket allow, and sends the engine's output. */
  pump(): void {
    this.#guarded(() => this.#pump());
  }

  #pump(): void {
    let more: boolean;
    do {
      // Deliver nothing until the peer's token has been judged.
      more = this.#judge() && this.#delivery.fill();
    } while (this.#flush() && more);
    // Answers have no window: a peer that does not read them is not read either.
    if (this.#socket.writableLength > ANSWER_QUEUE) {
      this.#crowded = true;
      this.#socket.pause();
    }
    // What it streams waits for slow peers.
    if (this.#intake.isBehind && !this.#over) {
      this.#heldBack = true;
      this.#socket.pause();
    }
    this.#setTimer();
  }

  /** Resumes reading unless it is paused for another reason. */
  #readOn(): void {
    if (!this.#crowded && !this.#heldBack && this.#behind === undefined) this.#socket.resume();
  }

  /** Charges work to the peer's budget and pauses reading when it is exceeded. */
  #charge(work: number): void {
    if (work === 0) return;
    const wait = charge(this.#work, work, Date.now());
    if (wait < WORK_PAUSE || this.#over) return;
    const rested = new Promise<void>((resolve) => {
      this.#resting = setTimeout(resolve, wait);
    });
    this.#await(rested, () => undefined);
  }

  /** Runs an action on the engine or store. An exception ends this connection and no other. */
  #guarded(act: () => void): void {
    try {
      act();
    } catch (error) {
      const detail = error instanceof Error ? (error.stack ?? error.message) : String(error);
      this.#hub.log(`closed ${printable(this.#source)}: InternalError ${printable(detail)}`);
      this.#fail();
    }
  }

  #fail(): void {
    try {
      this.#engine.close(ConnectCloseReasonId.Resting);
      this.#end();
    } catch {
      this.#engine.transportLost();
      this.#socket.destroy();
    }
  }

  deliverVolatile(message: Volatile): void {
    this.#guarded(() => this.#delivery.addVolatile(message));
  }

  lookAtStreams(now: number): boolean {
    return this.#delivery.lookAtStreams(now);
  }

  /** Ends the connection, telling the peer the reason. */
  close(reasonId: number, returnTime = 0): void {
    this.#guarded(() => {
      this.#engine.close(reasonId, returnTime);
      this.#end();
    });
  }

  #handle(events: readonly ConnectionEvent[]): void {
    this.#judge();
    for (const event of events) {
      if (this.#behind === undefined) this.#on(event);
      else this.#behind.push(event.type === "data" ? { ...event, octets: event.octets.slice() } : event);
    }
    this.#pump();
  }

  /** Pauses reading and defers further events until the result is there. */
  #await<T>(result: Promise<T>, act: (result: T | undefined) => void): void {
    const behind: ConnectionEvent[] = [];
    this.#behind = behind;
    this.#socket.pause();
    void result
      .catch(() => undefined)
      .then((outcome) => {
        this.#behind = undefined;
        if (this.#over) return;
        this.#readOn();
        this.#guarded(() => {
          if (this.#engine.closed === undefined) act(outcome);
          this.#handle(behind);
        });
      });
  }

  /** Acts on a decision, immediately if it is available. */
  #decide<T>(decision: T | Promise<T>, act: (decision: T | undefined) => void): void {
    if (decision instanceof Promise) this.#await(decision, act);
    else act(decision);
  }

  /** Whether the token's bearer may still be served; false while that is being checked. */
  #judge(): boolean {
    if (this.#standing.fresh()) return true;
    if (this.#behind === undefined && !this.#over) this.#await(this.#standing.judge(), () => undefined);
    return false;
  }

  /** Ends the connection because its token is no longer valid. The device learns why when it reconnects. */
  #evict(reason: TokenProblem): void {
    this.#hub.log(`closed ${printable(this.#source)}: ${reason}`);
    // With an expired token a device comes back with another.
    if (reason === "TokenRevoked" || reason === "TokenInvalid") this.#intake.endChannels();
    this.close(ConnectCloseReasonId.Resting);
  }

  /** Handles an event. Later bytes of the same read may already have ended its session or the connection. */
  #on(event: ConnectionEvent): void {
    if (this.#proof !== undefined && event.type !== "connectAuthenticate" && event.type !== "closed") {
      this.#unproven(this.#proof.source);
      return;
    }
    switch (event.type) {
      case "connect": {
        if (this.#engine.state !== "connecting") break;
        const { vouched, sendOnly } = parseCapabilities(event.productCapabilities);
        this.#vouched = vouched;
        if (event.sourceDeviceURLs.some(isRelay)) {
          this.#connectRelay(event);
          break;
        }
        this.#sendOnly = sendOnly;
        this.#decide(
          this.#authenticator.connect(this.#principal, { ...event, token: event.token.slice() }),
          (decision) => this.#connect(event.sourceDeviceURLs, decision),
        );
        break;
      }
      case "connectAuthenticate": {
        const pending = this.#proof;
        if (pending === undefined) break;
        this.#await(pending.proof.verify(event.token.slice()), (good) => {
          this.#proof = undefined;
          if (good === true) this.#serveRelay(pending.source);
          else this.#unproven(pending.source);
        });
        break;
      }
      case "attach":
        this.#charge(1);
        if (this.#engine.session(event.eventId) !== undefined) this.#attach(event.eventId, event.accountURL);
        break;
      case "register": {
        this.#charge(1);
        // The relay keeps no registrations: every device may fetch its own messages.
        const { eventId } = event;
        if (this.#engine.session(eventId) === undefined) break;
        this.#decide(this.#authenticator.register(this.#principal, event), (may) => {
          if (this.#engine.session(eventId) === undefined) return;
          if (may === true) this.#engine.acceptRegister(eventId);
          else this.#engine.closeSession(eventId, CloseReasonId.DeviceAuthenticationFailed);
        });
        break;
      }
      case "open": {
        this.#charge(1);
        if (this.#engine.session(event.sessionId) === undefined) break;
        const named = this.#isAddressable(event) && this.#shutOut(event.resourceURL, [event]).length === 0;
        this.#engine.setAvailability(event.sessionId, named ? "ready" : "fault");
        const target = { ...event, relayURL: "" };
        if (named) this.#intake.open(event.sessionId, this.#source, event.resourceURL, [target]);
        break;
      }
      case "fanoutOpen": {
        this.#charge(event.entries.length);
        if (this.#engine.session(event.sessionId) === undefined) break;
        // Each recipient is sent its own Open, which holds less than a FanoutOpen.
        const fit = event.entries.every((entry) => fitsOpen(event.resourceURL, entry));
        this.#engine.setAvailability(event.sessionId, fit ? "ready" : "fault");
        if (fit) this.#fanout(event);
        break;
      }
      case "message":
        this.#intake.begin(event.sessionId, event.fields);
        break;
      case "data":
        this.#charge(this.#intake.data(event.sessionId, event.octets));
        break;
      case "endMessage":
        this.#charge(this.#intake.end(event.sessionId, event.message, Date.now()));
        this.#hub.settleLater(this);
        break;
      case "sessionClosed":
        if (event.kind === "inbound") this.#intake.close(event.sessionId);
        else this.#delivery.sessionLost(event.sessionId, event.unacknowledged, event.reasonId);
        break;
      case "sessionState":
        this.#delivery.sessionState(event.sessionId, event.state);
        break;
      case "sessionRefused":
        this.#delivery.sessionLost(event.sessionId, event.unacknowledged);
        break;
      case "acknowledged":
        this.#hub.acknowledged(this.#delivery.acknowledged(event.messages), this);
        this.#hub.commitLater();
        break;
      case "closed":
        this.#hub.log(`closed ${printable(this.#source)}: ${printable(event.detail)}`);
        this.#end();
        break;
    }
  }

  #connect(sourceDeviceURLs: readonly string[], decision: ConnectDecision | undefined): void {
    if (this.#engine.state !== "connecting") return;
    const [source = ""] = sourceDeviceURLs;
    if (decision?.type === "ok") {
      this.#principal = decision.principal;
      this.#engine.acceptConnect();
      this.#source = source;
      this.#intake.introduce(source, this.#vouched);
      this.#standing.connected();
      this.#standing.patrol();
      if (decision.consumes && !this.#sendOnly) for (const url of sourceDeviceURLs) this.#consume(url);
      this.#hub.log(`connected ${printable(source)}`);
      return;
    }
    const { responseId, reason } = decision ?? { responseId: ConnectResponseId.TryLater, reason: "KeysUnavailable" };
    const retry = responseId === ConnectResponseId.TryLater ? DECISION_RETRY : 0;
    this.#hub.log(`refused ${printable(source)}: ${reason}`);
    // SSTP provides the token of the response for the security layer's reason.
    this.#engine.refuseConnect(responseId, retry, new TextEncoder().encode(reason));
    this.#end();
  }

  /** Indexes of the recipients that the token does not allow. */
  #shutOut(resourceURL: string, entries: Parameters<Authenticator["open"]>[1]["entries"]): readonly number[] {
    const refused = this.#authenticator.open(this.#principal, { resourceURL, entries });
    return refused instanceof Promise ? [...entries.keys()] : refused;
  }

  /**
   * Admits or refuses a relay. It must connect under one name only: with a second it could take that name's messages.
   */
  #connectRelay({ sourceDeviceURLs, targetDeviceURL, token }: Extract<ConnectionEvent, { type: "connect" }>): void {
    const source = sourceDeviceURLs.length === 1 ? relayNamed(sourceDeviceURLs[0] ?? "") : undefined;
    const acceptor = relayNamed(targetDeviceURL);
    const judged =
      source === undefined || acceptor === undefined || source === acceptor
        ? undefined
        : this.#hub.relays.judge(source, this.#socket.remoteAddress ?? "");
    if (source === undefined || acceptor === undefined || judged === undefined || judged.type === "refused") {
      this.#refuseRelay(source);
      return;
    }
    if (judged.type === "admitted") {
      this.#engine.acceptConnect();
      this.#serveRelay(source);
      return;
    }
    this.#await(AcceptorProof.begin(judged.secrets, { dialler: source, acceptor }, token.slice()), (proof) => {
      if (this.#engine.state !== "connecting") return;
      if (proof === undefined) {
        this.#refuseRelay(source);
        return;
      }
      this.#proof = { proof, source };
      this.#engine.acceptConnect({ token: proof.challenge });
    });
  }

  #serveRelay(source: string): void {
    // A relay has and needs no token: all relays may address the same peers.
    this.#principal = ANYBODY;
    this.#source = source;
    this.#intake.introduce(source, this.#vouched);
    this.#hub.relays.admit(source, this.#isFromHere());
    this.#consume(source);
    this.#hub.log(`connected ${source}`);
  }

  /** Whether the peer is on this machine: its address is loopback, or the one it connected to. */
  #isFromHere(): boolean {
    const { remoteAddress = "", localAddress } = this.#socket;
    return remoteAddress === localAddress || isLoopback(remoteAddress);
  }

  #refuseRelay(source: string | undefined): void {
    this.#hub.log(
      `refused ${source ?? "a relay without a name"}: it did not prove that it shares a secret (--link-secret)`,
    );
    const reason: ReasonName = "RelayNotProven";
    this.#engine.refuseConnect(ConnectResponseId.AuthenticationFailed, 0, new TextEncoder().encode(reason));
    this.#end();
  }

  #unproven(source: string): void {
    this.#hub.log(`closed ${source}: it did not prove that it shares a secret (--link-secret)`);
    this.close(ConnectCloseReasonId.ProtocolError);
  }

  /**
   * Whether a recipient is addressable. Relays may address only peers that can exist here; devices also foreign names.
   */
  #isAddressable(entry: { readonly identityURL: string; readonly deviceURL: string }): boolean {
    if (isRelay(this.#source)) return addressee(entry) !== undefined;
    return isPeer(entry.identityURL) && (entry.deviceURL === "" || isPeer(entry.deviceURL));
  }

  /**
   * Opens a fanout. Peers of this relay are served from their queues here, those of another relay through the
   * connection that it has made.
   */
  #fanout(event: Extract<ConnectionEvent, { type: "fanoutOpen" }>): void {
    const unreachable: number[] = [];
    const shutOut = new Set(this.#shutOut(event.resourceURL, event.entries));
    const nobodys: number[] = [];
    const surplus: number[] = [];
    const targets = event.entries.map((entry, index) => {
      const named = relayNamed(entry.relayURL);
      const isOfAnother = named !== undefined && this.#hub.relays.isOfAnother(named);
      const here = !isOfAnother && isMultidrop(entry, this.#localDeviceURLs);
      const relay = here ? undefined : named;
      // From a relay this would be a second hop.
      const reachable = here || (relay !== undefined && this.#hub.relays.knows(relay) && !isRelay(this.#source));
      if (!this.#isAddressable(entry) || shutOut.has(index)) nobodys.push(index);
      else if (index >= RECIPIENTS) surplus.push(index);
      else if (!reachable) unreachable.push(index);
      return { ...entry, relayURL: here ? "" : (relay ?? entry.relayURL) };
    });
    this.#intake.open(event.sessionId, this.#source, event.resourceURL, targets, true);
    this.#intake.fail(event.sessionId, nobodys, SessionStatusId.LockedOut);
    this.#intake.fail(event.sessionId, surplus, SessionStatusId.QuotaWouldBeExceeded);
    this.#intake.fail(event.sessionId, unreachable);
  }

  /** Handles Attach. Identity-targeted messages go to the device that attached the account last. */
  #attach(eventId: number, accountURL: string): void {
    // A relay has its own queue and may not attach local accounts.
    const account = isRelay(this.#source) || this.#sendOnly ? undefined : accountOf(accountURL);
    const may = account && this.#authenticator.attach(this.#principal, { ...account, token: NO_TOKEN });
    this.#decide(may ?? false, (decision) => {
      if (this.#engine.session(eventId) === undefined) return;
      if (decision !== true || account === undefined) {
        this.#engine.closeSession(eventId, CloseReasonId.UserAuthenticationFailed);
        return;
      }
      const peer = identityURL(account);
      if (this.#peers.size >= QUEUES && !this.#peers.has(peer)) {
        this.#engine.closeSession(eventId, CloseReasonId.QuotaWouldBeExceeded);
        return;
      }
      this.#engine.acceptAttach(eventId);
      this.#consume(peer);
    });
  }

  #consume(peer: string): void {
    this.#peers.add(peer);
    const before = this.#hub.consume(peer, this);
    this.#delivery.addQueue(peer);
    if (before === undefined) return;
    // Two connections of one device: the older one is dead or about to be replaced.
    if (before.source === this.#source) before.close(ConnectCloseReasonId.CrossedConnections);
    else before.loseQueue(peer);
  }

  room(peer: string, mayGoOn: (sender: string) => boolean): boolean {
    this.#guarded(() => {
      if (this.#intake.room(peer, mayGoOn)) this.#pump();
    });
    return this.#intake.waitsFor(peer);
  }

  loseQueue(peer: string): void {
    this.#guarded(() => this.#delivery.removeQueue(peer));
  }

  regainQueue(peer: string): void {
    this.#guarded(() => {
      this.#delivery.addQueue(peer);
      this.#hub.settleLater(this);
    });
  }

  /** Sends the engine's output. True if the socket accepts more at once. */
  #flush(): boolean {
    if (this.#socket.destroyed) return false;
    const blocks = this.#engine.output(Date.now());
    if (blocks.length === 0) return !this.#socket.writableNeedDrain;
    this.#socket.cork();
    for (const block of blocks) this.#socket.write(block);
    this.#socket.uncork();
    return !this.#socket.writableNeedDrain;
  }

  #setTimer(): void {
    const connecting = this.#source === "" ? this.#connectBy : Number.POSITIVE_INFINITY;
    const at = Math.min(this.#engine.deadline, connecting);
    if (this.#timerAt <= at && this.#timer !== undefined) return;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (at === Number.POSITIVE_INFINITY || this.#over) return;
    this.#timerAt = at;
    this.#timer = setTimeout(() => this.#due(), Math.max(0, at - Date.now()));
  }

  #due(): void {
    this.#timer = undefined;
    this.#timerAt = Number.POSITIVE_INFINITY;
    if (this.#source === "" && Date.now() >= this.#connectBy) {
      this.close(ConnectCloseReasonId.Resting);
      return;
    }
    this.#guarded(() => this.#handle(this.#engine.advance(Date.now())));
  }

  #gone(): void {
    this.#engine.transportLost();
    this.#end();
  }

  #end(): void {
    if (this.#over) return;
    this.#over = true;
    this.#standing.end();
    clearTimeout(this.#timer);
    clearTimeout(this.#resting);
    this.#timer = undefined;
    for (const peer of this.#peers) this.#hub.release(peer, this);
    this.#hub.forget(this);
    this.#peers.clear();
    this.#intake.abandon();
    this.#delivery.abandon();
    this.#flush();
    this.#socket.end();
    this.#socket.resume();
    // A peer that neither reads nor ends its side would keep the socket open forever.
    const lingering = setTimeout(() => this.#socket.destroy(), LINGER);
    lingering.unref();
    this.#socket.once("close", () => clearTimeout(lingering));
  }
}

/** The token in Attach is ignored: the token in Connect holds all rights. */
const NO_TOKEN = new Uint8Array(0);

/** Octets of an Open besides its three strings: header 3, SessionId 4, a NUL each, flags 1, Reserved 2 [2.2.5.1]. */
const OPEN_FIXED_OCTETS = 13;

function fitsOpen(resourceURL: string, entry: { readonly identityURL: string; readonly deviceURL: string }): boolean {
  const strings = resourceURL.length + entry.identityURL.length + entry.deviceURL.length;
  return OPEN_FIXED_OCTETS + strings <= MAX_SHORT_COMMAND_OCTETS;
}
