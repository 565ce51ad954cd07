/**
 * What a device exposes, and the list of it that devices get which may open streams there. Pure.
 *
 * @module
 */
import { type Destination, parseDestination } from "../../edge/policy/destinations.ts";
import { type Endpoint, isExposedName } from "./stream-address.ts";

export interface Exposed {
  /** By name. */
  readonly services: ReadonlyMap<string, Endpoint>;
  /** What SOCKS reaches. */
  readonly destinations: readonly Destination[];
}

/** The list: without where its services are. */
export interface Listing {
  readonly services: readonly string[];
  /** As written for `expose --socks`. */
  readonly destinations: readonly string[];
}

/** Formats the list for another device. */
export function formatListing({ services, destinations }: Exposed): string {
  const listing: Listing = { services: [...services.keys()], destinations: destinations.map(({ text }) => text) };
  return JSON.stringify(listing);
}

/** Parses what another device has sent; undefined if that is no list. */
export function parseListing(text: string): Listing | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (typeof value !== "object" || value === null) return undefined;
  const { services, destinations } = value as Readonly<Record<string, unknown>>;
  if (!isListOf(services, isExposedName)) return undefined;
  if (!isListOf(destinations, (text) => parseDestination(text).ok)) return undefined;
  return { services, destinations };
}

function isListOf(value: unknown, isRight: (text: string) => boolean): value is readonly string[] {
  return Array.isArray(value) && value.every((text) => typeof text === "string" && isRight(text));
}
