/** Talks to an echo by WebSocket: `websocket-talk.ts URL`. Prints how many messages came back as they were sent. */
import { once } from "node:events";
import { pattern, random } from "../support/watch.ts";

/** Messages, up to so many bytes long, of which the edge's batches hold neither one nor a whole number. */
const MESSAGES = 1000;
const LONGEST = 70_000;

/** Messages on their way: enough that both directions are busy. */
const AHEAD = 20;

const [url = ""] = process.argv.slice(2);
const socket = new WebSocket(url);
socket.binaryType = "arraybuffer";
const next = random(4);
const sent: Uint8Array[] = [];
let [count, right] = [0, 0];

function send(): void {
  // Few are long.
  const message = pattern(Math.floor(next() ** 4 * LONGEST), count);
  count += 1;
  sent.push(message);
  socket.send(message);
}

socket.addEventListener("message", ({ data }) => {
  const expected = sent.shift();
  if (expected !== undefined && Buffer.compare(Buffer.from(data as ArrayBuffer), expected) === 0) right += 1;
  if (count < MESSAGES) send();
  else if (sent.length === 0) socket.close(1000);
});
await once(socket, "open");
while (count < AHEAD) send();
const [closed] = (await once(socket, "close")) as [CloseEvent];
console.log(`${right} of ${MESSAGES} messages came back, closed by ${closed.code}`);
