/**
 * What the edge does between a device and an origin relay, with the engine only: it terminates the device's connection,
 * has its own to the relay, and passes messages on in both directions. Without a folder a message is acknowledged when
 * the other side has acknowledged it, and nothing is stored. With one, messages that arrive together are written to
 * SQLite there, acknowledged when on disk, then passed on, and removed when the other side has acknowledged them.
 */
import { connect, createServer, type Socket } from "node:net";
import { join } from "node:path";
import { DatabaseSync, type StatementSync } from "node:sqlite";
import { Connection, type ConnectionEvent, type MessageFields, relayURL } from "../../src/sstp/index.ts";
import { serve } from "../support/rpc.ts";

/** Messages that arrived together, a row per batch, in order of arrival. */
class Log {
  readonly #insert: StatementSync;
  readonly #remove: StatementSync;
  #next = 1;
  /** The existing rows, and the number under which the last message of each was passed on. */
  readonly #rows: { readonly n: number; readonly last: number }[] = [];

  constructor(file: string) {
    const database = new DatabaseSync(file);
    // Like the platform: one fsync per transaction.
    database.exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL");
    database.exec("CREATE TABLE log (n INTEGER PRIMARY KEY, body BLOB NOT NULL)");
    this.#insert = database.prepare("INSERT INTO log (n, body) VALUES (?, ?)");
    this.#remove = database.prepare("DELETE FROM log WHERE n <= ?");
  }

  append(messages: readonly Kept[]): void {
    const ids = messages.map(({ fields }) => Buffer.from(fields.userRef ?? ""));
    this.#insert.run(
      this.#next,
      Buffer.concat(messages.flatMap(({ body }, at) => [ids[at] ?? Buffer.alloc(0), ...body])),
    );
  }

  /** What was appended last has been passed on. */
  passed(last: number): void {
    this.#rows.push({ n: this.#next, last });
    this.#next += 1;
  }

  acknowledged(upTo: number): void {
    const left = this.#rows.findIndex(({ last }) => last > upTo);
    const gone = this.#rows.splice(0, left < 0 ? this.#rows.length : left).at(-1);
    if (gone !== undefined) this.#remove.run(gone.n);
  }
}

/** A received message. */
interface Kept {
  readonly sessionId: number;
  readonly fields: MessageFields;
  readonly body: Uint8Array[];
  message: number;
}

/** One of the two connections, and how it maps to the other. */
interface Side {
  readonly engine: Connection;
  readonly socket: Socket;
  /** Sessions opened by this side's peer, and the matching ones towards the other side's. */
  readonly sessions: Map<number, number>;
  readonly back: Map<number, number>;
  /** Messages sent to this side's peer, and the numbers under which the other side's has sent them. */
  readonly sent: Map<number, number>;
  /** Messages from this side's peer, if they are stored. */
  readonly log: Log | undefined;
  readonly arriving: Map<number, Kept>;
  arrived: Kept[];
}

function side(engine: Connection, socket: Socket, log: Log | undefined): Side {
  socket.setNoDelay(true);
  socket.on("error", () => socket.destroy());
  const maps = { sessions: new Map(), back: new Map(), sent: new Map(), arriving: new Map() };
  return { engine, socket, log, ...maps, arrived: [] };
}

/** Where a forwarder passes messages on to, and the folder in which it stores them, if any. */
export interface Forwarding {
  readonly relay: string;
  readonly folder?: string;
}

let logs = 0;

function logIn(folder: string | undefined): Log | undefined {
  logs += 1;
  return folder === undefined ? undefined : new Log(join(folder, `forwarder-${logs}.sqlite`));
}

/** @param name by which devices address the forwarder */
function forward(device: Socket, name: string, { relay, folder }: Forwarding): void {
  const [host = "", port] = relay.split(":");
  const near = new Connection({
    role: "relay",
    outbound: false,
    localDeviceURLs: [relayURL(name)],
    now: performance.now(),
    multidropSupported: true,
    singleHopSupported: true,
  });
  const far = new Connection({
    role: "relay",
    outbound: true,
    localDeviceURLs: [relayURL(name)],
    now: performance.now(),
    multidropSupported: true,
  });
  const left = side(near, device, logIn(folder));
  const right = side(far, connect(Number(port), host), logIn(folder));
  far.connect(relayURL(relay));
  let welcome: (() => void) | undefined;
  let ready = false;

  function on(from: Side, to: Side, event: ConnectionEvent): void {
    switch (event.type) {
      case "connect":
        welcome = () => from.engine.acceptConnect();
        if (ready) welcome();
        break;
      case "connected":
        ready = true;
        welcome?.();
        break;
      case "attach":
        from.engine.acceptAttach(event.eventId);
        break;
      case "fanoutOpen":
        pair(
          from,
          to,
          event.sessionId,
          to.engine.openFanout({ resourceURL: event.resourceURL, entries: event.entries }),
        );
        break;
      case "open": {
        const { resourceURL, identityURL, deviceURL } = event;
        pair(from, to, event.sessionId, to.engine.open({ resourceURL, identityURL, deviceURL }));
        break;
      }
      case "sessionState": {
        const theirs = from.back.get(event.sessionId);
        if (theirs !== undefined) to.engine.setAvailability(theirs, event.state === "ready" ? "ready" : "notReady");
        break;
      }
      case "message":
        if (from.log !== undefined) {
          from.arriving.set(event.sessionId, {
            sessionId: event.sessionId,
            fields: event.fields,
            body: [],
            message: 0,
          });
          break;
        }
        to.engine.beginMessage(ours(from, event.sessionId), {
          userRef: event.fields.userRef,
          acknowledgeImmediately: event.fields.acknowledgeImmediately,
          doNotDeliverIfOffline: event.fields.doNotDeliverIfOffline,
        });
        break;
      case "data":
        if (from.log !== undefined) {
          from.arriving.get(event.sessionId)?.body.push(event.octets);
          break;
        }
        to.engine.data(ours(from, event.sessionId), event.octets);
        break;
      case "endMessage":
        if (from.log !== undefined) {
          const kept = from.arriving.get(event.sessionId);
          if (kept === undefined) break;
          kept.message = event.message;
          from.arrived.push(kept);
          break;
        }
        to.sent.set(to.engine.endMessage(ours(from, event.sessionId)), event.message);
        break;
      case "acknowledged":
        if (to.log !== undefined) {
          to.log.acknowledged(event.messages.at(-1) ?? 0);
          break;
        }
        for (const number of event.messages) {
          to.engine.complete(from.sent.get(number) ?? 0, performance.now());
          from.sent.delete(number);
        }
        break;
    }
  }

  /** Stores what has arrived together, acknowledges it, and passes it on. */
  function keep(from: Side, to: Side): void {
    const { arrived, log } = from;
    if (log === undefined || arrived.length === 0) return;
    from.arrived = [];
    log.append(arrived);
    let last = 0;
    for (const { sessionId, fields, body, message } of arrived) {
      from.engine.complete(message, performance.now());
      const session = ours(from, sessionId);
      to.engine.beginMessage(session, { userRef: fields.userRef, acknowledgeImmediately: true });
      for (const octets of body) to.engine.data(session, octets);
      last = to.engine.endMessage(session);
    }
    log.passed(last);
  }

  function take(from: Side, to: Side): void {
    from.socket.on("data", (octets: Buffer) => {
      for (const event of from.engine.receive(octets, performance.now())) on(from, to, event);
      keep(from, to);
      for (const { engine, socket } of [from, to]) {
        for (const block of engine.output(performance.now())) socket.write(block);
      }
    });
    from.socket.on("close", () => to.socket.destroy());
  }
  take(left, right);
  take(right, left);
  for (const block of far.output(performance.now())) right.socket.write(block);
}

function pair(from: Side, to: Side, theirs: number, ours: number): void {
  from.sessions.set(theirs, ours);
  to.back.set(ours, theirs);
}

function ours(from: Side, theirs: number): number {
  const session = from.sessions.get(theirs);
  if (session === undefined) throw new Error(`session ${theirs} has none on the other side`);
  return session;
}

serve({
  /** Listens for devices, and forwards them to a relay. */
  listen: (forwarding: Forwarding) =>
    new Promise<number>((resolve) => {
      let name = "";
      const server = createServer((socket) => forward(socket, name, forwarding));
      server.listen(0, "127.0.0.1", () => {
        const address = server.address();
        const port = typeof address === "object" && address !== null ? address.port : 0;
        name = `127.0.0.1:${port}`;
        resolve(port);
      });
    }),
});
