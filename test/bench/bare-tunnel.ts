/**
 * A tunnel for TCP with nothing of the product but its cipher, in a program as `grooveway forward` and `expose` are: what
 * the same hops cost. It knows no resume, no credit and no streams: each connection has a WebSocket of its own to the worker
 * with two objects.
 *
 *   near PORT TO    listens, prints its port, and seals; PORT is the worker's
 *   far PORT TO     connects to TO, a port of this machine, for each that comes
 *   plain PORT TO   as `near`, but an object dials TO itself, and nothing is sealed
 *   apart PORT TO   as `plain`, but a second object dials
 */
import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";
import { writerTo } from "./blocks.ts";
import { type ObjectEnd, openObject, SealedRecords } from "./objects-client.ts";

const [role = "", worker = "", to = ""] = process.argv.slice(2);
const port = Number(worker);

/** Joins a connection to a WebSocket. Neither is read faster than the other takes. */
function join(socket: Socket, end: Pick<ObjectEnd, "write" | "close">): void {
  socket.setNoDelay(true);
  socket.on("error", () => socket.destroy());
  socket.on("close", () => end.close());
  void (async () => {
    for await (const octets of socket) await end.write(octets as Buffer);
  })().catch(() => undefined);
}

async function entrance(open: (take: (octets: Uint8Array) => void, number: number) => ObjectEnd): Promise<void> {
  let calls = 0;
  const server = createServer({ pauseOnConnect: true }, async (socket) => {
    const write = writerTo(socket);
    const end = open((octets) => void write(octets), calls++);
    await end.opened;
    join(socket, end);
    socket.resume();
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  console.log(`127.0.0.1:${typeof address === "object" ? address?.port : 0} is ready`);
}

function sealed(side: "near" | "far", number: number, take: (octets: Uint8Array) => void): ObjectEnd {
  return new SealedRecords().around((given) => openObject({ port, side, number }, given), take);
}

/** Takes the call of a number, and after it the next. */
function answer(number: number): void {
  let socket: Socket | undefined;
  const end = sealed("far", number, (octets) => {
    if (socket === undefined) {
      socket = connect({ port: Number(to), host: "127.0.0.1" });
      join(socket, end);
      answer(number + 1);
    }
    void writerTo(socket)(octets);
  });
}

if (role === "near") await entrance((take, number) => sealed("near", number, take));
else if (role === "plain" || role === "apart") {
  const dial = `127.0.0.1:${to}`;
  await entrance((take, number) => openObject({ port, side: "near", number, dial, isApart: role === "apart" }, take));
} else {
  answer(0);
  console.log("far is ready");
}
