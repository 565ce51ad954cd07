/**
 * A slow and lossy line: `slow-line.ts PORT NEAR FAR`, with the ends as ADDRESS:PORT. IP packets come and go as datagrams
 * between it and socat, which has a network device at each end.
 */
import { createSocket } from "node:dgram";
import { random } from "../support/watch.ts";

const [port = "", near = "", far = ""] = process.argv.slice(2);

/** One way, in milliseconds. */
const DELAY = 150;

/** Of fifty packets one is lost. */
const LOSS = 0.02;

const next = random(1);
const line = createSocket("udp4");
line.on("message", (packet, from) => {
  if (next() < LOSS) return;
  const [toAddress = "", toPort = ""] = (`${from.address}:${from.port}` === near ? far : near).split(":");
  setTimeout(() => line.send(packet, Number(toPort), toAddress), DELAY);
});
line.bind(Number(port), () => console.log("listening"));
