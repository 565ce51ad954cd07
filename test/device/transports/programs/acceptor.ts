/** Accepts connections to port 2492 of every address. */
import { createServer } from "node:net";

createServer((socket) => socket.on("error", () => undefined).end()).listen(2492, "::", () => console.log("listening"));
