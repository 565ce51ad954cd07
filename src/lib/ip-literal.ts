/**
 * IP addresses as text, in the spellings that mean the same to everybody: dotted decimals without leading zeros, and
 * the forms of RFC 4291.
 *
 * @module
 */

/** Parses four decimals to 255, without leading zeros: others might read those as octal. */
export function parseIPv4(text: string): bigint | undefined {
  const parts = text.split(".");
  if (parts.length !== 4) return undefined;
  let value = 0n;
  for (const part of parts) {
    if (!/^(?:0|[1-9][0-9]{0,2})$/.test(part) || Number(part) > 255) return undefined;
    value = (value << 8n) | BigInt(part);
  }
  return value;
}

/** Parses an IPv6 address in lower case, without brackets or a zone. */
export function parseIPv6(text: string): bigint | undefined {
  const [head = "", tail, more] = text.split("::");
  if (more !== undefined) return undefined;
  const before = groups(head, tail === undefined);
  const after = tail === undefined ? [] : groups(tail, true);
  if (before === undefined || after === undefined) return undefined;
  const missing = 8 - before.length - after.length;
  if (tail === undefined ? missing !== 0 : missing < 1) return undefined;
  return [...before, ...Array<bigint>(missing).fill(0n), ...after].reduce((value, group) => (value << 16n) | group, 0n);
}

/** @param last whether the address ends with these groups: only there may four decimals stand for the last two */
function groups(text: string, last: boolean): bigint[] | undefined {
  if (text === "") return [];
  const parts = text.split(":");
  const found: bigint[] = [];
  for (const [n, part] of parts.entries()) {
    if (/^[0-9a-f]{1,4}$/.test(part)) {
      found.push(BigInt(`0x${part}`));
      continue;
    }
    const quad = last && n === parts.length - 1 ? parseIPv4(part) : undefined;
    if (quad === undefined) return undefined;
    found.push(quad >> 16n, quad & 0xffffn);
  }
  return found;
}
