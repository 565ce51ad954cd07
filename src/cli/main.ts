#!/usr/bin/env node
/** The `grooveway` command. */
import { DeviceError } from "../device/index.ts";
import type { Command } from "./arguments.ts";
import { edgeCommand } from "./edge.ts";
import { CommandError } from "./output.ts";
import { recvCommand } from "./recv.ts";
import { relayCommand } from "./relay.ts";
import { sendCommand } from "./send.ts";
import { startCommand } from "./start.ts";

const COMMANDS: readonly Command[] = [startCommand, relayCommand, edgeCommand, sendCommand, recvCommand];

const HELP = `Usage: grooveway COMMAND [options]

Carries devices that may only make outgoing HTTP connections to relays that speak SSTP, and keeps what is sent to them.

${COMMANDS.map(({ name, summary }) => `  ${name.padEnd(7)} ${summary}`).join("\n")}

grooveway COMMAND --help shows the options of each, with an example.`;

async function main(args: readonly string[]): Promise<number> {
  const [name, ...rest] = args;
  if (name === undefined || name === "--help" || name === "-h" || name === "help") {
    console.log(HELP);
    return name === undefined ? 2 : 0;
  }
  const command = COMMANDS.find((one) => one.name === name);
  if (command === undefined) throw new CommandError("Usage", `there is no command ${name}; see grooveway --help`);
  if (rest.includes("--help") || rest.includes("-h")) {
    console.log(command.help);
    return 0;
  }
  return command.run(rest);
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
  process.exitCode = error instanceof CommandError && error.code === "Usage" ? 2 : 1;
}
