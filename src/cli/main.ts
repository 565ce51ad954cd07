#!/usr/bin/env -S node --disable-warning=ExperimentalWarning
/** The `grooveway` command. */
import { DeviceError } from "../device/error.ts";
import type { Command } from "./arguments.ts";
import { EXIT_CODES, statusOfError } from "./exit-codes.ts";
import { CommandError } from "./output.ts";

/** The first Node that has all that is used here: node:sqlite, and what miniflare needs. */
const NODE_NEEDED = [22, 13] as const;

/** Each is loaded when it is asked for: help needs no database and no runtime. */
const COMMANDS: Record<string, { readonly summary: string; readonly load: () => Promise<Command> }> = {
  start: {
    summary: "show it all on this machine: a relay, the edge, two devices and a file",
    load: async () => (await import("./start.ts")).startCommand,
  },
  relay: {
    summary: "run an origin relay: SSTP on TCP, a queue for every device",
    load: async () => (await import("./relay.ts")).relayCommand,
  },
  edge: { summary: "run the edge on this machine", load: async () => (await import("./edge.ts")).edgeCommand },
  token: {
    summary: "make keys and tokens, and look into tokens",
    load: async () => (await import("./token.ts")).tokenCommand,
  },
  send: {
    summary: "send a file to a device or an identity",
    load: async () => (await import("./send.ts")).sendCommand,
  },
  recv: {
    summary: "receive what was sent to this device",
    load: async () => (await import("./recv.ts")).recvCommand,
  },
  mailbox: {
    summary: "look into the mailboxes of an edge",
    load: async () => (await import("./mailbox.ts")).mailboxCommand,
  },
};

const HELP = `Usage: grooveway COMMAND [options]

Carries devices that may only make outgoing HTTP connections to relays that speak SSTP, and keeps what is sent to them.

${Object.entries(COMMANDS)
  .map(([name, { summary }]) => `  ${name.padEnd(7)} ${summary}`)
  .join("\n")}

grooveway COMMAND --help shows the options of each, with an example.`;

async function main(args: readonly string[]): Promise<number> {
  const [name, ...rest] = args;
  if (name === undefined || name === "--help" || name === "-h" || name === "help") {
    console.log(HELP);
    return name === undefined ? 2 : 0;
  }
  const found = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
  if (found === undefined) throw new CommandError("Usage", `there is no command ${name}; see grooveway --help`);
  requireNode();
  const command = await found.load();
  if (rest.includes("--help") || rest.includes("-h")) {
    console.log(command.help);
    return 0;
  }
  return command.run(rest);
}

function requireNode(): void {
  const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);
  if (major > NODE_NEEDED[0] || (major === NODE_NEEDED[0] && minor >= NODE_NEEDED[1])) return;
  throw new CommandError(
    "NodeTooOld",
    `Node ${NODE_NEEDED.join(".")} or later is needed, and this is ${process.versions.node}: install a newer one`,
  );
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  if (error instanceof CommandError || error instanceof DeviceError) {
    console.error(`grooveway: ${error.message} [${error.code}]`);
  } else {
    console.error("grooveway: something unexpected happened; please report what follows");
    console.error(error);
  }
  const known = error instanceof CommandError || error instanceof DeviceError;
  process.exitCode = known ? statusOfError(error) : EXIT_CODES.InternalError.status;
}
