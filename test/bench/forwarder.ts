/**
 * What the edge does between a device and an origin relay, by the engine alone: it ends the device's connection, has one
 * of its own to the relay, and passes messages on, both ways. A message is acknowledged when the other side has
 * acknowledged it; nothing is kept.
 */
import { connect, createServer, type Socket } from "node:net";
import { Connection, type ConnectionEvent, relayURL } from "../../src/sstp/index.ts";
import { serve } from "./rpc.ts";

/** One of the two connections, and what on it belongs to what on the other. */
interface Side {
  readonly engine: Connection;
  readonly socket: Socket;
  /** Sessions of this side's peer, and ours towards the other side's. */
  readonly sessions: Map<number, number>;
  readonly back: Map<number, number>;
  /** Messages sent to this side's peer, and the numbers under which the other side's has sent them. */
  readonly sent: Map<number, number>;
}

function side(engine: Connection, socket: Socket): Side {
  socket.setNoDelay(true);
  socket.on("error", () => socket.destroy());
  return { engine, socket, sessions: new Map(), back: new Map(), sent: new Map() };
}

/** @param name under which devices know the forwarder */
function forward(device: Socket, name: string, relay: string): void {
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
  const left = side(near, device);
  const right = side(far, connect(Number(port), host));
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
        to.engine.beginMessage(ours(from, event.sessionId), {
          userRef: event.fields.userRef,
          acknowledgeImmediately: event.fields.acknowledgeImmediately,
          doNotDeliverIfOffline: event.fields.doNotDeliverIfOffline,
        });
        break;
      case "data":
        to.engine.data(ours(from, event.sessionId), event.octets);
        break;
      case "endMessage":
        to.sent.set(to.engine.endMessage(ours(from, event.sessionId)), event.message);
        break;
      case "acknowledged":
        for (const number of event.messages) {
          to.engine.complete(from.sent.get(number) ?? 0, performance.now());
          from.sent.delete(number);
        }
        break;
    }
  }

  function take(from: Side, to: Side): void {
    from.socket.on("data", (octets: Buffer) => {
      for (const event of from.engine.receive(octets, performance.now())) on(from, to, event);
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
  listen: (relay: string) =>
    new Promise<number>((resolve) => {
      let name = "";
      const server = createServer((socket) => forward(socket, name, relay));
      server.listen(0, "127.0.0.1", () => {
        const address = server.address();
        const port = typeof address === "object" && address !== null ? address.port : 0;
        name = `127.0.0.1:${port}`;
        resolve(port);
      });
    }),
});
