/**
 * The options of `grooveway recv` about forwarding.
 *
 * @module
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { Device, DeviceOptions } from "../../device/index.ts";
import { jsonLine, printable, visible } from "../../lib/printable.ts";
import { INBOX_RESOURCE, parseServer } from "../../requests/index.ts";
import { usage } from "../parse-arguments.ts";
import { type ProfileOptions, withProfile } from "../profiles/profile-options.ts";
import type { ProxyValues } from "../proxy-options.ts";
import type { Output } from "../standard-output.ts";
import { askServer } from "./ask-server.ts";
import { inboxClient, peerPath } from "./inbox-client.ts";
import { FORWARD_TIMEOUT, MOST_TRIES } from "./limits.ts";
import { type FailedForward, type ForwardEvent, RequestForwarder } from "./request-forwarder.ts";

export interface ForwardingValues extends ProfileOptions, ProxyValues {
  readonly forward?: string | undefined;
  readonly tries?: string | undefined;
  readonly "strict-order": boolean;
}

/** What a forwarder needs of the command that runs. */
export interface ForwardingPlace {
  readonly output: Pick<Output, "report">;
  readonly tell: (line: string) => void;
  readonly isJson: boolean;
  readonly signal: AbortSignal;
  /** The device that takes requests. */
  readonly device: Pick<Device, "suspend">;
}

/**
 * Returns what makes the forwarder; undefined without --forward.
 *
 * @throws CommandError Usage, and those of `withProfile` and `inboxClient`
 */
export function forwardingIn(
  values: ForwardingValues,
  { edge }: Pick<DeviceOptions, "edge">,
): ((place: ForwardingPlace) => RequestForwarder) | undefined {
  const { forward, tries, "strict-order": isStrict } = values;
  if (forward === undefined) {
    if (tries !== undefined || isStrict) throw usage("recv", "--tries and --strict-order need --forward URL");
    return undefined;
  }
  const server = parseServer(forward);
  if (!server.ok) throw usage("recv", `--forward ${printable(forward)}: ${server.problems}`);
  if (tries !== undefined && (!/^[1-9][0-9]{0,3}$/.test(tries) || Number(tries) > MOST_TRIES)) {
    throw usage("recv", `--tries ${tries} is not a number from 1 to ${MOST_TRIES}`);
  }
  if (tries !== undefined && isStrict)
    throw usage("recv", "with --strict-order nothing is set aside: leave out --tries");
  if (typeof edge !== "string") {
    throw usage("recv", "--forward needs one edge, which has the inboxes: give --edge once, without --relay");
  }
  const completed = withProfile({ ...values, edge }, { inherited: process.env.GROOVEWAY_TOKEN, tell: () => undefined });
  const client = inboxClient("recv", completed, values);
  const setAside = async ({ inbox, id, reason, detail, tries }: FailedForward, octets: Uint8Array): Promise<void> => {
    const query = new URLSearchParams({ inbox: inbox.name, id, reason, detail, tries: String(tries) });
    const path = `${peerPath(inbox.peer)}/failed?${query}`;
    await client.ask({ method: "POST", path, octets, expects: isSetAside });
  };
  return ({ output, tell, isJson, signal, device }) =>
    new RequestForwarder({
      ask: (request) => askServer(server.value, request, { timeout: FORWARD_TIMEOUT }),
      setAside,
      suspend: () => device.suspend(INBOX_RESOURCE),
      pause: (milliseconds) => sleep(milliseconds, undefined, { signal }).catch(() => undefined),
      isStrict,
      tries: tries === undefined ? undefined : Number(tries),
      report: (event) => output.report([`${isJson ? jsonLine(event) : lineOf(event)}\n`]),
      tell,
      signal,
    });
}

function isSetAside(value: unknown): boolean {
  return typeof (value as { readonly setAside?: unknown } | null)?.setAside === "string";
}

function lineOf(event: ForwardEvent): string {
  const what = `${event.inbox}: ${visible(event.target)}`;
  if (event.event === "forwarded") return `${what}: ${event.status}`;
  return `${what} is set aside: ${visible(event.detail)} [${event.reason}]`;
}
