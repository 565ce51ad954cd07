import { type Address, parseAddress } from "../../src/sstp/index.ts";

/** The parts of an address that a test has written. */
export function partsOf(text: string): Address {
  const parsed = parseAddress(text);
  if (!parsed.ok) throw new Error(parsed.problems);
  return parsed.value;
}
