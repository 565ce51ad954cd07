/**
 * One SSTP connection at the relay: the engine in the relay role between a socket, the store and the other peers.
 *
 *   socket ─► engine events ─► Intake ─► store ─(commit)─► acknowledgement ─► socket
 *   Delivery: queues of the peers that it consumes ─► engine ─► socket, within a window of what is unacknowledged
 *
 * @module
 */
import type { Socket } from "node:net";
import { printable } from "../lib/printable.ts";
import {
  accountOf,
  CloseReasonId,
  ConnectCloseReasonId,
  Connection,
  type ConnectionEvent,
  identityURL,
  isMultidrop,
  isRelay,
  isSameDevice,
  isURL,
  MAX_SHORT_COMMAND_OCTETS,
} from "../sstp/index.ts";
import { VOUCHED, vouches } from "../store-and-forward/vouch.ts";
import { ANSWER_QUEUE, CONNECT_TIMEOUT, KEEP_ALIVE, LINGER, RECEIVE_TIMEOUT } from "./defaults.ts";
import { Delivery } from "./delivery.ts";
import type { Consumer, Hub } from "./hub.ts";
import { Intake } from "./intake.ts";
import type { Outgoing } from "./queue.ts";

export class PeerConnection implements Consumer {
  readonly #hub: Hub;
  readonly #socket: Socket;
  readonly #engine: Connection;
  readonly #localDeviceURLs: readonly string[];
  readonly #intake: Intake;
  readonly #delivery: Delivery;
  /** URLs of the peers whose queues this connection consumes. */
  readonly #peers = new Set<string>();
  #source = "";
  #timer: NodeJS.Timeout | undefined;
  #timerAt = Number.POSITIVE_INFINITY;
  readonly #connectBy: number;
  #over = false;

  constructor(hub: Hub, socket: Socket, localDeviceURLs: readonly string[], messageLimit: number) {
    this.#hub = hub;
    this.#socket = socket;
    const now = Date.now();
    this.#connectBy = now + CONNECT_TIMEOUT;
    this.#engine = new Connection({
      role: "relay",
      outbound: false,
      localDeviceURLs,
      now,
      keepAlive: KEEP_ALIVE,
      receiveTimeout: RECEIVE_TIMEOUT,
      multidropSupported: true,
      singleHopSupported: true,
      capabilities: VOUCHED,
    });
    this.#localDeviceURLs = localDeviceURLs;
    this.#intake = new Intake(hub, this.#engine, messageLimit);
    this.#delivery = new Delivery(hub, this.#engine, () => this.#socket.writableLength);
    socket.on("data", (octets: Buffer) => this.#handle(this.#engine.receive(octets, Date.now())));
    socket.on("drain", () => {
      socket.resume();
      this.pump();
    });
    socket.on("error", () => this.#gone());
    // The peer will send no more; what it has sent is settled, and then nobody is there to acknowledge to.
    socket.on("end", () => this.#gone());
    socket.on("close", () => this.#gone());
    this.#setTimer();
  }

  get source(): string {
    return this.#source;
  }

  /** The commit has happened: what was stored is acknowledged, what was refused is told. */
  settle(): void {
    this.#intake.settle();
    if (this.#engine.closed === undefined) this.pump();
    else this.#end();
  }

  /** Brings as much as the window and the socket take, and sends what the engine has to send. */
  pump(): void {
    let more: boolean;
    do {
      more = this.#delivery.fill();
    } while (this.#flush() && more);
    // Answers have no window: a peer that does not read them is not read either.
    if (this.#socket.writableLength > ANSWER_QUEUE) this.#socket.pause();
    this.#setTimer();
  }

  deliverVolatile(message: Outgoing): void {
    this.#delivery.addVolatile(message);
  }

  /** Ends the connection; the peer reads the reason. */
  close(reasonId: number, returnTime = 0): void {
    this.#engine.close(reasonId, returnTime);
    this.#end();
  }

  #handle(events: readonly ConnectionEvent[]): void {
    for (const event of events) this.#on(event);
    this.pump();
  }

  /** By the time that an event is looked at, octets behind it may have ended its session, or the connection. */
  #on(event: ConnectionEvent): void {
    switch (event.type) {
      case "connect":
        if (this.#engine.state !== "connecting") break;
        this.#engine.acceptConnect();
        this.#source = event.sourceDeviceURLs[0] ?? "";
        this.#intake.introduce(this.#source, vouches(event.productCapabilities));
        for (const url of event.sourceDeviceURLs) this.#consume(url);
        if (isRelay(this.#source)) this.#hub.relays.add(this.#source);
        this.#hub.log(`connected ${printable(this.#source)}`);
        break;
      case "attach":
        if (this.#engine.session(event.eventId) !== undefined) this.#attach(event.eventId, event.accountURL);
        break;
      case "register":
        // Nothing is registered here: every device may fetch what is addressed to it.
        if (this.#engine.session(event.eventId) !== undefined) this.#engine.acceptRegister(event.eventId);
        break;
      case "open": {
        if (this.#engine.session(event.sessionId) === undefined) break;
        const named = isURL(event.identityURL) && (event.deviceURL === "" || isURL(event.deviceURL));
        this.#engine.setAvailability(event.sessionId, named ? "ready" : "fault");
        const target = { ...event, relayURL: "" };
        if (named) this.#intake.open(event.sessionId, this.#source, event.resourceURL, [target]);
        break;
      }
      case "fanoutOpen": {
        if (this.#engine.session(event.sessionId) === undefined) break;
        // Each recipient is going to be sent an Open of its own, which holds less than a FanoutOpen.
        const fit = event.entries.every((entry) => fitsOpen(event.resourceURL, entry));
        this.#engine.setAvailability(event.sessionId, fit ? "ready" : "fault");
        if (fit) this.#fanout(event);
        break;
      }
      case "message":
        this.#intake.begin(event.sessionId, event.fields);
        break;
      case "data":
        this.#intake.data(event.sessionId, event.octets);
        break;
      case "endMessage":
        this.#intake.end(event.sessionId, event.message, Date.now());
        this.#hub.settleLater(this);
        break;
      case "sessionClosed":
        if (event.kind === "inbound") this.#intake.close(event.sessionId);
        else if (this.#delivery.sessionLost(event.sessionId, event.unacknowledged, event.reasonId)) {
          this.close(ConnectCloseReasonId.Resting);
        }
        break;
      case "sessionState":
        this.#delivery.sessionState(event.sessionId, event.state);
        break;
      case "sessionRefused":
        this.#delivery.sessionLost(event.sessionId, event.unacknowledged);
        break;
      case "acknowledged":
        this.#delivery.acknowledged(event.messages);
        this.#hub.commitLater();
        break;
      case "closed":
        this.#hub.log(`closed ${printable(this.#source)}: ${printable(event.detail)}`);
        this.#end();
        break;
    }
  }

  /** Peers of ours are served here; those of another relay by the connection that it has made to this one. */
  #fanout(event: Extract<ConnectionEvent, { type: "fanoutOpen" }>): void {
    const unreachable: number[] = [];
    const targets = event.entries.map((entry, index) => {
      if (isMultidrop(entry, this.#localDeviceURLs)) return { ...entry, relayURL: "" };
      const relay = [...this.#hub.relays].find((known) => isSameDevice(known, entry.relayURL));
      // From a relay it would be the second hop.
      if (relay === undefined || isRelay(this.#source)) unreachable.push(index);
      return { ...entry, relayURL: relay ?? entry.relayURL };
    });
    this.#intake.open(event.sessionId, this.#source, event.resourceURL, targets, true);
    this.#intake.fail(event.sessionId, unreachable);
  }

  /** Identity-targeted messages go to the device that attached the account, the newest if several did. */
  #attach(eventId: number, accountURL: string): void {
    const account = accountOf(accountURL);
    if (account === undefined) {
      this.#engine.closeSession(eventId, CloseReasonId.UserAuthenticationFailed);
      return;
    }
    this.#engine.acceptAttach(eventId);
    this.#consume(identityURL(account));
  }

  #consume(peer: string): void {
    this.#peers.add(peer);
    const before = this.#hub.consume(peer, this);
    this.#delivery.addQueue(peer);
    if (before === undefined) return;
    // Two connections of one device: the older one is dead, or about to be replaced.
    if (before.source === this.#source) before.close(ConnectCloseReasonId.CrossedConnections);
    else before.loseQueue(peer);
  }

  loseQueue(peer: string): void {
    this.#delivery.removeQueue(peer);
  }

  regainQueue(peer: string): void {
    this.#delivery.addQueue(peer);
    this.#hub.settleLater(this);
  }

  /** Sends what the engine has; true when the socket would take more at once. */
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
    this.#handle(this.#engine.advance(Date.now()));
  }

  #gone(): void {
    this.#engine.transportLost();
    this.#end();
  }

  #end(): void {
    if (this.#over) return;
    this.#over = true;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    for (const peer of this.#peers) this.#hub.release(peer, this);
    this.#peers.clear();
    this.#intake.abandon();
    this.#delivery.abandon();
    this.#flush();
    this.#socket.end();
    this.#socket.resume();
    // A peer that neither reads nor ends its side would keep the socket for ever.
    const lingering = setTimeout(() => this.#socket.destroy(), LINGER);
    lingering.unref();
    this.#socket.once("close", () => clearTimeout(lingering));
  }
}

/** Octets of an Open besides its three strings: header 3, SessionId 4, a NUL each, flags 1, Reserved 2 [2.2.5.1]. */
const OPEN_FIXED_OCTETS = 13;

function fitsOpen(resourceURL: string, entry: { readonly identityURL: string; readonly deviceURL: string }): boolean {
  const strings = resourceURL.length + entry.identityURL.length + entry.deviceURL.length;
  return OPEN_FIXED_OCTETS + strings <= MAX_SHORT_COMMAND_OCTETS;
}
