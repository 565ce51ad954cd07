/** Speaks TLS on port 2492 of every address, with certificates larger than one small packet. */
import { createServer } from "node:tls";
import { authority } from "../../../support/certificates.ts";

const { ca, key, cert } = authority();
const server = createServer({ key, cert: `${cert}${ca}` }, (socket) => socket.on("error", () => undefined).end());
server.on("tlsClientError", () => undefined);
server.listen(2492, "::", () => console.log("listening"));
