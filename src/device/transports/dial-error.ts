/**
 * Errors of failed connections: one text for all addresses of a name, with advice.
 *
 * @module
 */
import { formatHostPort } from "../../lib/host-port.ts";
import { DeviceError } from "../device-error.ts";

/** An address, and why connecting to it failed. */
export interface FailedAttempt {
  readonly address: string;
  readonly error: NodeJS.ErrnoException;
}

/** Advice by system error code. The first entry that matches any address is used. */
const CURES: readonly (readonly [codes: readonly string[], cure: string])[] = [
  [["ECONNREFUSED"], "nothing is listening there: check the port, and that the server is running"],
  [["ECONNRESET"], "the connection was reset at once: look for a firewall in between"],
  [["ETIMEDOUT"], "nothing answered: check the address, and that no firewall blocks that port"],
  [["ENETUNREACH", "EHOSTUNREACH", "EADDRNOTAVAIL", "ENETDOWN", "EHOSTDOWN"], "check the network of this machine"],
  [["EACCES", "EPERM"], "this machine does not allow the program to connect: check its firewall"],
  [["EMFILE", "ENFILE", "ENOBUFS"], "this machine cannot open another connection: close some"],
];

/** Every address failed. */
export function unreachable(host: string, port: number, attempts: readonly FailedAttempt[]): DeviceError {
  const codes = attempts.map(({ error }) => codeOf(error));
  const outcomes = attempts.map(({ address }, i) => `${formatHostPort({ host: address, port })} ${codes[i]}`);
  const [, cure] = CURES.find(([known]) => codes.some((code) => known.includes(code))) ?? [];
  const errors = attempts.map(({ error }) => error);
  return failed(host, outcomes.join(", "), cure, errors.length === 1 ? errors[0] : new AggregateError(errors));
}

/** The name has no address; without `error`, the lookup timed out. */
export function unresolved(host: string, timeout: number, error: NodeJS.ErrnoException | undefined): DeviceError {
  if (error === undefined) {
    return failed(host, `the name was not resolved within ${seconds(timeout)}`, "check the DNS server of this machine");
  }
  const code = codeOf(error);
  return code === "EAI_AGAIN"
    ? failed(host, `no DNS server answered (${code})`, "check the network of this machine and its DNS server", error)
    : failed(host, `the name has no address (${code})`, "check its spelling, and that DNS has it", error);
}

/** Formats a duration for a person. */
export function seconds(milliseconds: number): string {
  return milliseconds < 1000 ? `${Math.round(milliseconds)} ms` : `${Math.round(milliseconds / 1000)} s`;
}

function failed(host: string, why: string, cure: string | undefined, cause?: unknown): DeviceError {
  const text = `connect to ${host} failed: ${why}${cure === undefined ? "" : `; ${cure}`}`;
  return new DeviceError("ConnectFailed", text, { cause });
}

function codeOf({ code, message, name }: NodeJS.ErrnoException): string {
  return code ?? (message || name);
}
