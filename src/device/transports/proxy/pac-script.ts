/**
 * Evaluates a PAC script in a sandbox: QuickJS in WebAssembly, with limits for time and memory. All of the script runs
 * in there, so that the limits hold for all of it.
 *
 * PAC is a language without promises, and DNS is asynchronous. So a script that asks for a name is stopped; when the
 * name is resolved, it runs again from its beginning with the answer at hand.
 *
 * The packages are loaded when the first script is used.
 *
 * @module
 */
import { lookup } from "node:dns/promises";
import { readFile } from "node:fs/promises";
import { networkInterfaces } from "node:os";
import { fileURLToPath } from "node:url";
import type { JSValueHandle, QuickJS } from "quickjs-wasi";
import { bracketed } from "../../../lib/host-port.ts";
import { parseIPv4 } from "../../../lib/ip-literal.ts";
import { within } from "../../../lib/runtime/timeout.ts";

/** Memory of the sandbox, in bytes: the script, and what it makes of it. */
const PAC_MEMORY = 32 * 1024 * 1024;

/** Names that one script may resolve: real ones ask for the host and few others, and each costs a run. */
const PAC_NAMES = 16;

/** The longest text that a function of PAC takes, in characters: far above a URL or the name of a host. */
const PAC_TEXT = 4096;

/** A destination as a script sees it. */
export interface PacDestination {
  readonly scheme: "http" | "https";
  /** Without brackets. */
  readonly host: string;
}

/**
 * Calls FindProxyForURL.
 *
 * @param timeout milliseconds for the script and the names that it resolves
 * @returns what it returns: a text, if the script is right
 * @throws Error that says why in words of this program, never of the script, which may contain secrets
 */
export async function runPacScript(script: string, to: PacDestination, timeout: number): Promise<unknown> {
  const { create, functions } = await loadEngine();
  const end = performance.now() + timeout;
  const names = new Map<string, string | undefined>();
  for (;;) {
    const run = new Run({ vm: await create(end), functions, names, end });
    const { value, missing } = run.call(script, to);
    if (performance.now() >= end) throw new Error(`it did not answer within ${timeout} ms`);
    if (missing === undefined) return value();
    if (names.size === PAC_NAMES) throw new Error(`it resolves more than ${PAC_NAMES} names`);
    const found = await within(
      end - performance.now(),
      lookup(missing, { family: 4 }).catch(() => undefined),
    );
    names.set(missing, found?.value?.address);
  }
}

type PacFunction = (...values: readonly unknown[]) => unknown;

interface Engine {
  /** Makes a sandbox that stops at a time of `performance.now()`. */
  readonly create: (end: number) => Promise<QuickJS>;
  /** The functions of PAC that need nothing from outside. */
  readonly functions: Readonly<Record<string, PacFunction>>;
}

let engine: Promise<Engine> | undefined;

function loadEngine(): Promise<Engine> {
  engine ??= startEngine();
  // Tried again next time.
  engine.catch(() => {
    engine = undefined;
  });
  return engine;
}

async function startEngine(): Promise<Engine> {
  const [{ sandbox }, { QuickJS }] = await Promise.all([import("pac-resolver"), import("quickjs-wasi")]);
  const wasm = await readFile(fileURLToPath(import.meta.resolve("quickjs-wasi/quickjs.wasm")));
  const { dateRange, dnsDomainIs, dnsDomainLevels, isPlainHostName, localHostOrDomainIs, timeRange, weekdayRange } =
    sandbox;
  const functions = {
    dateRange,
    dnsDomainIs,
    dnsDomainLevels,
    isPlainHostName,
    localHostOrDomainIs,
    timeRange,
    weekdayRange,
  } as Readonly<Record<string, unknown>> as Readonly<Record<string, PacFunction>>;
  const create = (end: number) =>
    QuickJS.create({ wasm, memoryLimit: PAC_MEMORY, interruptHandler: () => performance.now() >= end });
  return { create, functions };
}

/**
 * The function of PAC that would take long with a pattern made for that. In the sandbox, its time is limited. A pattern
 * is a glob; `?` is any character.
 */
const SHELL_EXPRESSIONS = `function shExpMatch(text, pattern) {
  text = String(text);
  pattern = String(pattern);
  var at = 0, next = 0, star = -1, from = 0;
  while (at < text.length) {
    if (pattern[next] === "*") { star = next; next += 1; from = at; }
    else if (next < pattern.length && (pattern[next] === "?" || pattern[next] === text[at])) { at += 1; next += 1; }
    else if (star >= 0) { next = star + 1; from += 1; at = from; }
    else return false;
  }
  while (pattern[next] === "*") next += 1;
  return next === pattern.length;
}`;

interface RunOptions extends Pick<Engine, "functions"> {
  readonly vm: QuickJS;
  /** Addresses of the names that are resolved; undefined for a name without any. */
  readonly names: ReadonlyMap<string, string | undefined>;
  readonly end: number;
}

/** One run of a script, in a sandbox of its own. */
class Run {
  readonly #options: RunOptions;
  /** The first name that it has asked for in vain. Then what it returns means nothing. */
  #missing: string | undefined;

  constructor(options: RunOptions) {
    this.#options = options;
  }

  call(script: string, { scheme, host }: PacDestination) {
    const { vm } = this.#options;
    let outcome: { readonly value: unknown } | { readonly error: Error };
    try {
      for (const [name, own] of Object.entries({ ...this.#options.functions, ...this.#own() })) this.#define(name, own);
      vm.evalCode(SHELL_EXPRESSIONS);
      vm.evalCode(script, SCRIPT);
      const find = vm.evalCode(FIND);
      if (vm.typeof(find) !== "function") throw new Error("it has no function FindProxyForURL");
      const url = vm.newString(`${scheme}://${bracketed(host)}/`);
      const found = vm.callFunction(find, vm.undefined, url, vm.newString(host));
      outcome = { value: vm.typeof(found) === "string" ? vm.dump(found) : undefined };
    } catch (error) {
      outcome = { error: inOwnWords(error) };
    } finally {
      vm.dispose();
    }
    const value = (): unknown => {
      if ("error" in outcome) throw outcome.error;
      return outcome.value;
    };
    return { value, missing: this.#missing };
  }

  #own(): Readonly<Record<string, PacFunction>> {
    return {
      alert: () => undefined,
      dnsResolve: (name) => this.#resolve(name) ?? null,
      isResolvable: (name) => this.#resolve(name) !== undefined,
      isInNet: (name, pattern, mask) => isInNet(this.#resolve(name), String(pattern), String(mask)),
      myIpAddress: () => ownAddress(),
    };
  }

  #define(name: string, own: PacFunction): void {
    const { vm, end } = this.#options;
    const called = vm.newFunction(name, (...given) => {
      // The sandbox looks at the clock only now and then, and what happens out here counts little for it.
      if (performance.now() >= end) throw new Error("late");
      return vm.hostToHandle(own(...given.map((value) => plain(vm, value))));
    });
    vm.setProp(vm.global, name, called);
  }

  /** The IPv4 address of a name. */
  #resolve(name: unknown): string | undefined {
    const host = String(name);
    if (parseIPv4(host) !== undefined) return host;
    const { names } = this.#options;
    if (!names.has(host)) {
      this.#missing ??= host;
      throw new Error("not resolved yet");
    }
    return names.get(host);
  }
}

/** The name of the script in errors. */
const SCRIPT = "proxy.pac";

/** The function of the script. Null stands for a direct connection, like an empty text. */
const FIND = `typeof FindProxyForURL === "function"
  ? function (url, host) { var found = FindProxyForURL(url, host); return found === null ? "" : found; }
  : undefined`;

/** An argument of a function: functions of PAC take texts and numbers. */
function plain(vm: QuickJS, value: JSValueHandle): unknown {
  switch (vm.typeof(value)) {
    case "string": {
      const length = vm.dump(value.getProp("length"));
      if (typeof length !== "number" || length > PAC_TEXT) throw new Error("the text is too long");
      return vm.dump(value);
    }
    case "number":
    case "boolean":
      return vm.dump(value);
    default:
      return undefined;
  }
}

/** Errors of a script say in which line it fails, and how, if that is no invention of the script. */
const KINDS: ReadonlySet<string> = new Set([
  "EvalError",
  "InternalError",
  "RangeError",
  "ReferenceError",
  "SyntaxError",
  "TypeError",
]);

function inOwnWords(error: unknown): Error {
  const { name = "", stack = "" } = error as { readonly name?: unknown; readonly stack?: unknown };
  if (error instanceof Error && error.constructor === Error) return error;
  const [, line] = new RegExp(`${SCRIPT}:(\\d{1,6})`).exec(String(stack)) ?? [];
  const kind = KINDS.has(String(name)) ? ` (${name})` : "";
  return new Error(`the script fails${line === undefined ? "" : ` in line ${line}`}${kind}`);
}

function isInNet(address: string | undefined, pattern: string, mask: string): boolean {
  const [host, network, bits] = [address, pattern, mask].map((text) => parseIPv4(text ?? ""));
  if (host === undefined || network === undefined || bits === undefined) return false;
  return (host & bits) === (network & bits);
}

/** The package connects to a public DNS server to find this out. */
function ownAddress(): string {
  const all = Object.values(networkInterfaces()).flatMap((addresses) => addresses ?? []);
  return all.find(({ family, internal }) => family === "IPv4" && !internal)?.address ?? "127.0.0.1";
}
