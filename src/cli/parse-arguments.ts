/**
 * Parses and checks command-line arguments.
 *
 * @module
 */
import { readFileSync } from "node:fs";
import { type ParseArgsConfig, parseArgs } from "node:util";
import { parsePort } from "../lib/host-port.ts";
import { printable } from "../lib/printable.ts";
import { problemText, type Setting } from "../lib/setting.ts";
import { nearest } from "../lib/spelling.ts";
import { CommandError } from "./command-error.ts";

type Options = NonNullable<ParseArgsConfig["options"]>;

/** A subcommand. */
export interface Command {
  /** The whole help text, with an example. */
  readonly help: string;
  /** Runs the command; resolves with the exit status. */
  run(args: readonly string[]): Promise<number>;
}

/** A subcommand in the list of `grooveway --help`. */
export interface ListedCommand {
  readonly summary: string;
  load(): Promise<Command>;
}

/**
 * Parses the arguments of a subcommand.
 *
 * @throws CommandError Usage, which names the mistake and how to get help
 */
export function parse<const O extends Options>(command: string, args: readonly string[], options: O) {
  checkOptions(command, args, options);
  try {
    return parseArgs({ args: [...args], options, allowPositionals: true, strict: true });
  } catch (error) {
    const [why = ""] = (error instanceof Error ? error.message : String(error)).split(". ");
    throw usage(command, why.charAt(0).toLowerCase() + why.slice(1));
  }
}

/** Catches what Node's parser does not: it suggests no spelling, and silently takes the last of a repeated option. */
function checkOptions(command: string, args: readonly string[], options: Options): void {
  const { tokens } = parseArgs({ args: [...args], options, allowPositionals: true, strict: false, tokens: true });
  const seen = new Set<string>();
  for (const token of tokens) {
    if (token.kind !== "option") continue;
    const option = Object.hasOwn(options, token.name) ? options[token.name] : undefined;
    if (option === undefined) {
      const meant = nearest(token.name, Object.keys(options));
      const cure = meant === undefined ? "" : `, did you mean --${meant}?`;
      throw usage(command, `there is no option ${token.rawName}${cure}`);
    }
    if (option.type === "boolean" && token.value !== undefined) {
      throw usage(command, `${token.rawName} takes no value: leave out =${token.value}`);
    }
    if (option.type === "string" && (token.value === undefined || isOption(token))) {
      throw usage(command, `${token.rawName} needs a value; write --${token.name}=VALUE if it begins with a dash`);
    }
    // Repeating a switch is harmless.
    if (option.type === "string" && option.multiple !== true && seen.has(token.name)) {
      throw usage(command, `--${token.name} is given twice: give it once`);
    }
    seen.add(token.name);
  }
}

/** Reports whether an option took the next option as its value: its own value was forgotten. */
function isOption({ value, inlineValue }: { value?: string | undefined; inlineValue?: boolean | undefined }): boolean {
  return inlineValue !== true && value !== undefined && value.length > 1 && value.startsWith("-");
}

export function usage(command: string, why: string): CommandError {
  return new CommandError("Usage", `${why}; see grooveway ${command} --help`);
}

/** Error for a surplus argument. It is quoted, so that user input cannot pass for our own text. */
export function unexpected(command: string, argument: string | undefined): CommandError {
  return usage(command, `${printable(argument ?? "")} is one argument too many: leave it out`);
}

/**
 * The value of an option that is written like a setting.
 *
 * @param option as the user has given it, such as `--quota`
 * @param read what reading the option as that setting gave
 * @throws CommandError Usage
 */
export function settingOption<T>(command: string, option: string, read: Setting<T>): T {
  if (read.ok) return read.value;
  const texts = read.problems.map((problem) => problemText({ ...problem, setting: option }));
  throw usage(command, texts.join("; "));
}

/** Parses --min-free, given in MiB; returns bytes. */
export function minFreeOf(command: string, text: string): number {
  if (!/^[0-9]{1,9}$/.test(text)) throw usage(command, `--min-free ${text} is not a whole number of MiB`);
  return Number(text) * 1024 * 1024;
}

/** Parses a TCP port. */
export function port(command: string, text: string): number {
  const number = parsePort(text, 0);
  if (number === undefined) throw usage(command, `port ${text} is not a number from 0 to 65535`);
  return number;
}

/**
 * Reads a text file named by an option.
 *
 * @throws CommandError CannotRead
 */
export function readText(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    throw unreadable(path, error);
  }
}

/** Explains why a file cannot be read. */
export function unreadable(path: string, error: unknown): CommandError {
  const { code } = error as NodeJS.ErrnoException;
  const why = code === "ENOENT" ? `there is no file ${path}: check the path` : `cannot read ${path} (${code ?? error})`;
  return new CommandError("CannotRead", why);
}
