/** Searches output for secrets in all the forms in which they leak. */
import assert from "node:assert/strict";

/** Fails if a text contains a secret raw, percent-encoded, escaped as JSON, or in base64 at any alignment. */
export function assertNoSecret(text: string, secret: string): void {
  for (const [form, found] of formsOf(secret)) assert.ok(!text.includes(found), `${form} of ${secret} in ${text}`);
}

/** The forms of a secret, each with its name. */
export function formsOf(secret: string): [name: string, text: string][] {
  const bytes = Buffer.from(secret);
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0"));
  const aligned = [0, 1, 2].flatMap((shift): [string, string][] => {
    // The characters at both ends also depend on what stands beside the secret.
    const text = Buffer.concat([Buffer.alloc(shift), bytes]).toString("base64");
    const inner = text.replace(/=+$/, "").slice(shift === 0 ? 0 : shift + 1, -1);
    return [
      [`base64 at ${shift}`, inner],
      [`base64url at ${shift}`, inner.replaceAll("+", "-").replaceAll("/", "_")],
    ];
  });
  return [
    ["raw", secret],
    ["percent-encoded", encodeURIComponent(secret)],
    ["percent-encoded whole", hex.map((byte) => `%${byte}`).join("")],
    ["percent-encoded whole", hex.map((byte) => `%${byte.toUpperCase()}`).join("")],
    ["JSON", JSON.stringify(secret).slice(1, -1)],
    ["hexadecimal", hex.join("")],
    ...aligned,
  ];
}
