/**
 * A relay that is only the engine over TCP, in its own process: it acknowledges each message at once and sends
 * it back on the same connection, to the device named in its id.
 */
import { createServer, type Socket } from "node:net";
import { Connection, type ConnectionEvent, deviceURL, identityURL, relayURL } from "../../src/sstp/index.ts";
import { partsOf } from "../support/address.ts";
import { serve } from "../support/rpc.ts";

let port = 0;

/** Messages waiting for a session to be opened, or being sent on it. */
interface Back {
  readonly sessionId: number;
  ready: boolean;
  readonly waiting: { readonly userRef: string; readonly volatile: boolean; readonly body: Uint8Array }[];
}

function bounce(socket: Socket): void {
  socket.setNoDelay(true);
  socket.on("error", () => socket.destroy());
  const engine = new Connection({
    role: "relay",
    outbound: false,
    localDeviceURLs: [relayURL(`127.0.0.1:${port}`)],
    now: performance.now(),
    multidropSupported: true,
  });
  const arriving = new Map<number, { readonly userRef: string; readonly volatile: boolean; body: Uint8Array }>();
  const backs = new Map<string, Back>();

  function send(back: Back): void {
    for (const { userRef, volatile, body } of back.waiting.splice(0)) {
      engine.beginMessage(back.sessionId, { userRef, acknowledgeImmediately: true, doNotDeliverIfOffline: volatile });
      engine.data(back.sessionId, body);
      engine.endMessage(back.sessionId);
    }
  }

  function on(event: ConnectionEvent): void {
    switch (event.type) {
      case "connect":
        engine.acceptConnect();
        break;
      case "attach":
        engine.acceptAttach(event.eventId);
        break;
      case "fanoutOpen":
        engine.setAvailability(event.sessionId, "ready");
        break;
      case "message":
        arriving.set(event.sessionId, {
          userRef: event.fields.userRef,
          volatile: event.fields.doNotDeliverIfOffline,
          body: new Uint8Array(0),
        });
        break;
      case "data": {
        const message = arriving.get(event.sessionId);
        if (message !== undefined) message.body = Buffer.concat([message.body, event.octets]);
        break;
      }
      case "endMessage": {
        engine.complete(event.message, performance.now());
        const message = arriving.get(event.sessionId);
        if (message === undefined) break;
        const to = message.userRef.slice(message.userRef.indexOf("@") + 1);
        const back = backs.get(to) ?? open(to);
        back.waiting.push(message);
        if (back.ready) send(back);
        break;
      }
      case "sessionState":
        for (const back of backs.values()) {
          if (back.sessionId !== event.sessionId) continue;
          back.ready = event.state === "ready";
          if (back.ready) send(back);
        }
        break;
    }
  }

  function open(to: string): Back {
    const address = partsOf(to);
    const addressing = { resourceURL: "bounced", identityURL: identityURL(address), deviceURL: deviceURL(address) };
    const back: Back = { sessionId: engine.open(addressing), ready: false, waiting: [] };
    backs.set(to, back);
    return back;
  }

  socket.on("data", (octets: Buffer) => {
    for (const event of engine.receive(octets, performance.now())) on(event);
    for (const block of engine.output(performance.now())) socket.write(block);
  });
}

serve({
  listen: () =>
    new Promise<number>((resolve) => {
      const server = createServer(bounce);
      server.listen(0, "127.0.0.1", () => {
        const address = server.address();
        port = typeof address === "object" && address !== null ? address.port : 0;
        resolve(port);
      });
    }),
});
