/** `npm start`: runs relay, edge and devices on this machine and sends a real file through them. */
import { rmSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Device, type TransportName } from "../../device/index.ts";
import { visible } from "../../lib/printable.ts";
import { SSTP_PORT } from "../../sstp/index.ts";
import { CommandError } from "../command-error.ts";
import { rate } from "../device-options.ts";
import { FileReceiver, type ReceivedFile } from "../files/file-receiver.ts";
import { FileSender, type SentFile, type StreamToSend } from "../files/file-sender.ts";
import { type FileToSend, filesAt } from "../files/files-to-send.ts";
import { unlessInterrupted, untilInterrupted } from "../interrupt.ts";
import { startLocalEdge } from "../local-edge/local-edge.ts";
import { makeTemporaryFolder } from "../local-edge/temporary-folder.ts";
import { progressBar, size } from "../output.ts";
import { type Command, parse, port, unexpected } from "../parse-arguments.ts";
import { startRelayHere } from "./relay.ts";
import { newKey, sign } from "./token.ts";

/** Size in bytes of the file that is generated when none is named. */
const GENERATED = 8 * 1024 * 1024;

export const startCommand: Command = {
  help: `Usage: grooveway start [options] [FILE]

Starts a relay and an edge on this machine, and sends FILE (by default a generated one of 8 MiB) from a device that speaks
LongLived to one that speaks KeepAlive, both through the edge only. Then it sends a message to a device that is offline,
whose mailbox keeps it until the device connects. Each device has a token, verified with a key made for this run. It keeps
running, so that you can try more.

  --once           exit after the transfer, with exit code 0 if the file arrived intact
  --relay-port N   port of the relay; default ${SSTP_PORT}
  --port N         port of the edge; default 8787
  --json           print one JSON object for the transfer

Example: npm start -- --once package-lock.json`,

  async run(args) {
    const { values, positionals } = parse("start", args, {
      once: { type: "boolean", default: false },
      "relay-port": { type: "string", default: String(SSTP_PORT) },
      port: { type: "string", default: "8787" },
      json: { type: "boolean", default: false },
    });
    const [path, ...more] = positionals;
    if (more.length > 0) throw unexpected("start", more[0]);
    const say = (line: string) => values.json || console.log(line);
    // Check the file before anything is started.
    const file = path === undefined ? generated() : await fileAt(path);

    const interrupted = untilInterrupted();
    const folder = temporaryFolder();
    const issuer = await startIssuer();
    const relay = await startRelayOn(port("start", values["relay-port"]));
    try {
      const starting = startLocalEdge({
        port: port("start", values.port),
        relayAllow: [`localhost:${relay.port}`],
        dev: "private",
        keys: issuer.keys,
      });
      const edge = await unlessInterrupted(interrupted, starting);
      try {
        say(`relay    127.0.0.1:${relay.port}   SSTP on TCP`);
        say(`edge     ${edge.url}   HTTP`);
        const way: Way = { edge: edge.url, relay: `localhost:${relay.port}`, token: issuer.token };
        report(await unlessInterrupted(interrupted, transfer(way, file, folder)), values.json);
        const { id, waited } = await unlessInterrupted(interrupted, storeAndForward(way));
        if (values.json) console.log(JSON.stringify({ event: "mailbox", id, waited }));
        say(`
The mailbox: carol/pc sent a message to dave/tablet, which was offline, and disconnected. The edge kept the message;
dave/tablet connected, and had it after ${waited} ms.`);
        if (values.once) return 0;
        await writeTokens(issuer, ["erin/pc", "frank/tablet"], folder);
        say(invitation(way, folder));
        await interrupted;
        return 0;
      } finally {
        await edge.close();
      }
    } finally {
      await relay.close();
    }
  },
};

/** How the devices connect: through the edge and relay of this machine. */
interface Way {
  readonly edge: string;
  readonly relay: string;
  /** Returns a token for an address. */
  token(address: string): Promise<string>;
}

/** The issuer of tokens for this edge. */
interface Issuer {
  /** The key set that the edge verifies tokens with. */
  readonly keys: string;
  token(address: string): Promise<string>;
}

/** Creates an issuer with a fresh key that exists only in this process. */
async function startIssuer(): Promise<Issuer> {
  const { jwks, privateKey } = await newKey("start");
  return {
    keys: JSON.stringify(jwks),
    token: (address) =>
      sign(privateKey, {
        address,
        scope: "connect receive send:*",
        aud: "127.0.0.1",
        jti: address,
        exp: Math.floor(Date.now() / 1000) + 24 * 3600,
      }),
  };
}

/** Creates a temporary folder that is removed when the command exits. */
function temporaryFolder(): string {
  const folder = makeTemporaryFolder("grooveway-start-");
  process.once("exit", () => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** Writes one token file per address: `erin.token` for erin/pc. */
async function writeTokens(issuer: Issuer, addresses: readonly string[], folder: string): Promise<void> {
  for (const address of addresses) {
    const name = `${address.split("/")[0]}.token`;
    await writeFile(join(folder, name), await issuer.token(address), { mode: 0o600 });
  }
}

/**
 * Prints the result and compares the hashes.
 *
 * @throws CommandError Corrupted
 */
function report({ sent, received, milliseconds }: Result, json: boolean): void {
  if (json) {
    console.log(JSON.stringify({ event: "transfer", sent, received, milliseconds }));
  } else {
    console.log(`
  alice/laptop ──LongLived──► edge ──SSTP──► relay ──SSTP──► edge ──KeepAlive──► bob/phone

${visible(sent.name)}: ${size(sent.bytes)} at ${rate(sent.bytes, milliseconds)}
sent     sha256 ${sent.sha256}
received sha256 ${received.sha256}`);
  }
  if (sent.sha256 !== received.sha256 || sent.bytes !== received.bytes) {
    throw new CommandError("Corrupted", "the file that arrived differs from the one that was sent: please report this");
  }
  if (!json) console.log("Checksums match.");
}

function invitation({ edge, relay }: Way, tokens: string): string {
  return `
It keeps running. In a second terminal, in this folder:
  npm run -s grooveway -- send --edge ${edge} --as erin/pc --token @${tokens}/erin.token frank/tablet README.md
  npm run -s grooveway -- recv --edge ${edge} --as frank/tablet --token @${tokens}/frank.token --transport keepalive --out received
The order does not matter: the edge keeps the file until frank connects. With --relay ${relay} as well, the file
goes through the edge to the origin relay and waits there. Press Ctrl-C to stop.`;
}

/** Sends a message to a device that is not connected, through a mailbox of the edge. */
async function storeAndForward({ edge, token }: Way): Promise<{ readonly id: string; readonly waited: number }> {
  const carol = await Device.connect({
    edge,
    address: "carol/pc",
    transport: "longlived",
    token: await token("carol/pc"),
  });
  const { id } = await carol.send("dave/tablet", "are you there?");
  await carol.close();
  const started = performance.now();
  const dave = await Device.connect({
    edge,
    address: "dave/tablet",
    transport: "keepalive",
    token: await token("dave/tablet"),
  });
  try {
    for await (const message of dave.messages()) {
      message.done();
      if (message.id !== id) continue;
      return { id, waited: Math.round(performance.now() - started) };
    }
    throw new CommandError("ConnectFailed", "the connection ended before the mailbox delivered the message");
  } finally {
    await dave.close();
  }
}

interface Result {
  readonly sent: SentFile;
  readonly received: ReceivedFile;
  readonly milliseconds: number;
}

async function startRelayOn(relayPort: number) {
  try {
    return await startRelayHere({ port: relayPort });
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    throw new CommandError(error.code, error.message.replace("--port", "--relay-port"));
  }
}

/**
 * Returns the file at a path.
 *
 * @throws CommandError CannotRead
 */
async function fileAt(path: string): Promise<FileToSend> {
  for await (const finding of filesAt(path)) {
    if (finding.type === "failed") throw finding.error;
    if (finding.type === "file" && finding.file.place === undefined) return finding.file;
    break;
  }
  throw new CommandError("CannotRead", `${visible(path)} is a folder: name a file`);
}

async function transfer({ edge, relay, token }: Way, file: FileToSend | StreamToSend, folder: string): Promise<Result> {
  const connect = async (address: string, transport: TransportName) =>
    Device.connect({ edge, relay, address, transport, token: await token(address) });
  const bob = await connect("bob/phone", "keepalive");
  const alice = await connect("alice/laptop", "longlived");
  const bar = progressBar(file.name);
  const started = performance.now();
  try {
    const received = receiveOne(bob, folder, (bytes, total) => bar.update(bytes, total));
    // If sending fails, this promise is never awaited.
    received.catch(() => undefined);
    const sent = await new FileSender({ device: alice, to: "bob/phone" }).send(file);
    return { sent, received: await received, milliseconds: performance.now() - started };
  } finally {
    bar.end();
    await Promise.all([alice.close(), bob.close()]);
  }
}

async function receiveOne(
  device: Device,
  folder: string,
  progress: (bytes: number, total: number | undefined) => void,
): Promise<ReceivedFile> {
  const files = await FileReceiver.open({ out: folder, state: folder });
  try {
    for await (const message of device.messages()) {
      const outcome = await files.take(message);
      if (outcome.kind === "received") return outcome.file;
      if (outcome.kind === "kept") progress(outcome.held, outcome.size);
    }
    throw new CommandError("ConnectFailed", "the receiving device was closed before the file arrived");
  } finally {
    await files.close();
  }
}

/** Generates a file with no repeating part, so that a lost or duplicated part changes the hash. */
function generated(): StreamToSend {
  async function* stream(): AsyncGenerator<Uint8Array> {
    const size = 64 * 1024;
    let state = 0x9e3779b9;
    for (let made = 0; made < GENERATED; made += size) {
      const octets = new Uint32Array(size / 4);
      for (let i = 0; i < octets.length; i += 1) {
        // xorshift32
        state ^= state << 13;
        state ^= state >>> 17;
        state ^= state << 5;
        octets[i] = state;
      }
      yield new Uint8Array(octets.buffer);
    }
  }
  return { name: "generated.bin", stream: stream() };
}
