/**
 * Checks keys and certificates named by options before anything is started: the error messages of the runtimes do not
 * help the user.
 *
 * @module
 */
import { createPrivateKey, type KeyObject, X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import { printable } from "../lib/printable.ts";
import { CommandError } from "./command-error.ts";
import { readText } from "./parse-arguments.ts";

const CERTIFICATE = /-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----/g;

/**
 * Reads a private key and its certificate, which intermediate certificates may follow.
 *
 * @throws CommandError CannotRead, TlsUnusable
 */
export function readKeyPair(keyFile: string, certFile: string): { key: string; cert: string } {
  const key = readText(keyFile);
  const cert = readText(certFile);
  const privateKey = privateKeyOf(key, keyFile);
  const [own] = certificatesOf("--tls-cert", cert, certFile);
  if (own?.checkPrivateKey(privateKey) !== true) {
    const order = "the first certificate must be the key's; those of its authorities follow";
    throw unusable(`the certificate in --tls-cert ${certFile} does not belong to --tls-key ${keyFile}: ${order}`);
  }
  return { key, cert };
}

/**
 * Reads certificates of authorities.
 *
 * @throws CommandError CannotRead, TlsUnusable
 */
export function readAuthorities(file: string): string {
  const text = readText(file);
  const certificates = certificatesOf("--ca", text, file);
  const [first] = certificates;
  // A self-signed certificate is trusted as its own authority.
  if (first !== undefined && !certificates.some(({ ca, issuer, subject }) => ca || issuer === subject)) {
    const whose = `only that of ${nameOf(first.subject)}, issued by ${nameOf(first.issuer)}`;
    throw unusable(`--ca ${file} has no authority's certificate, ${whose}: give the certificate of that issuer`);
  }
  return text;
}

function privateKeyOf(text: string, file: string): KeyObject {
  try {
    return createPrivateKey(text);
  } catch {
    if (/ENCRYPTED/.test(text)) {
      throw unusable(`the key in --tls-key ${file} has a passphrase: remove it with openssl pkey -in ${file}`);
    }
    const swapped = text.includes("-----BEGIN CERTIFICATE-----")
      ? "it has a certificate, which belongs to --tls-cert; "
      : "";
    throw unusable(`--tls-key ${file} has no usable private key: ${swapped}give one in PEM`);
  }
}

function certificatesOf(option: string, text: string, file: string): X509Certificate[] {
  const found = text.match(CERTIFICATE) ?? [];
  const begun = text.split("-----BEGIN CERTIFICATE-----").length - 1;
  if (begun > found.length && found.length > 0) {
    throw unusable(`${option} ${file} ends within a certificate: it is being written, or write it anew`);
  }
  try {
    if (found.length > 0) return found.map((pem) => new X509Certificate(pem));
  } catch {
    // Reported below.
  }
  const instead = found.length > 0 ? "" : whatInstead(text, file);
  throw unusable(`${option} ${file} has no usable certificate: ${instead}give one in PEM`);
}

/** Describes what a file contains instead of a PEM certificate. */
function whatInstead(text: string, file: string): string {
  if (text.trim() === "") return "it is empty; ";
  if (/PRIVATE KEY-----/.test(text)) return "it has a private key; ";
  if (/-----BEGIN CERTIFICATE REQUEST-----/.test(text)) return "it has a certificate request; ";
  try {
    new X509Certificate(readFileSync(file));
    return `it is in DER (openssl x509 -inform der -in ${file}); `;
  } catch {
    return "";
  }
}

/** Returns the last part of an X.500 name, which is the most specific. */
function nameOf(name: string): string {
  return printable(
    name
      .trim()
      .split("\n")
      .at(-1)
      ?.replace(/^[A-Za-z]+=/, "") ?? "",
  );
}

function unusable(message: string): CommandError {
  return new CommandError("TlsUnusable", message);
}
