/** Certificates for tests, made with openssl, which every machine that runs the tests has. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export interface Certificates {
  /** PEM of the authority to trust. */
  readonly ca: string;
  readonly key: string;
  readonly cert: string;
}

/**
 * An authority and its certificate for 127.0.0.1, or for other subjects such as `DNS:edge.test`: the edge's runtime
 * rejects self-signed certificates.
 */
export function authority(subjects: readonly string[] = ["IP:127.0.0.1", "DNS:localhost"]): Certificates {
  const folder = mkdtempSync(join(tmpdir(), "grooveway-tls-"));
  const openssl = (...args: string[]) => execFileSync("openssl", args, { cwd: folder, stdio: "pipe" });
  try {
    const elliptic = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    openssl(
      "req",
      "-x509",
      ...elliptic,
      "-keyout",
      "ca.key",
      "-out",
      "ca.pem",
      "-days",
      "2",
      "-subj",
      "/CN=test authority",
    );
    openssl("req", ...elliptic, "-keyout", "leaf.key", "-out", "leaf.csr", "-subj", "/CN=127.0.0.1");
    writeFileSync(join(folder, "leaf.ext"), `subjectAltName=${subjects.join()}\nbasicConstraints=CA:FALSE\n`);
    openssl(
      "x509",
      "-req",
      "-in",
      "leaf.csr",
      "-CA",
      "ca.pem",
      "-CAkey",
      "ca.key",
      "-CAcreateserial",
      "-days",
      "2",
      "-extfile",
      "leaf.ext",
      "-out",
      "leaf.pem",
    );
    const read = (name: string) => readFileSync(join(folder, name), "utf8");
    return { ca: read("ca.pem"), key: read("leaf.key"), cert: read("leaf.pem") };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** A self-signed certificate for 127.0.0.1, expired with -1 days. */
export function selfSigned(name: string, days: number): { readonly key: string; readonly cert: string } {
  const folder = mkdtempSync(join(tmpdir(), "grooveway-tls-"));
  const openssl = (...args: string[]) => execFileSync("openssl", args, { cwd: folder, stdio: "pipe" });
  try {
    const elliptic = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    openssl("req", ...elliptic, "-keyout", "own.key", "-out", "own.csr", "-subj", `/CN=${name}`);
    writeFileSync(join(folder, "own.ext"), "subjectAltName=IP:127.0.0.1\n");
    const signed = ["-signkey", "own.key", "-days", String(days), "-extfile", "own.ext"];
    openssl("x509", "-req", "-in", "own.csr", ...signed, "-out", "own.pem");
    const read = (file: string) => readFileSync(join(folder, file), "utf8");
    return { key: read("own.key"), cert: read("own.pem") };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
