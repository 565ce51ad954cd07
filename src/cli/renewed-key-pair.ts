/**
 * A private key and its certificate that are renewed while the command runs. The new pair is served when both files have
 * stayed as they are for some seconds and belong together: a pair that is half written is not.
 *
 * @module
 */
import { CommandError } from "./command-error.ts";
import { onChange, stateOf } from "./file-changes.ts";
import type { KeyPair } from "./local-edge/worker-runtime.ts";
import { readKeyPair } from "./tls.ts";

/** Milliseconds between two looks: a program that renews a certificate writes both files within one. */
const LOOK = 5000;

export interface RenewedKeyPair extends KeyPair {
  /**
   * Serves each new pair.
   *
   * @param renew serves a pair; if it fails the one before is still served
   * @param notice is called with a line for the operator
   */
  follow(renew: (pair: KeyPair) => Promise<void>, notice: (line: string) => void): void;
  close(): void;
}

/**
 * Reads the pair.
 *
 * @param look milliseconds between two looks at the files
 * @throws CommandError CannotRead, TlsUnusable
 */
export function renewedKeyPair(keyFile: string, certFile: string, look = LOOK): RenewedKeyPair {
  const paths = [keyFile, certFile];
  const state = stateOf(paths);
  const first = readKeyPair(keyFile, certFile);
  const ending = new AbortController();
  return {
    ...first,
    follow(renew, notice) {
      let served: KeyPair = first;
      let last = Promise.resolve();
      const serve = async () => {
        try {
          const pair = readKeyPair(keyFile, certFile);
          if (ending.signal.aborted || (pair.key === served.key && pair.cert === served.cert)) return;
          await renew(pair);
          served = pair;
          notice(`the certificate in ${certFile} is served from now on`);
        } catch (error) {
          const why = error instanceof Error ? error.message : String(error);
          const code = error instanceof CommandError ? error.code : "TlsUnusable";
          notice(`the certificate from before is still served: ${why} [${code}]`);
        }
      };
      onChange({ paths, state, signal: ending.signal, look }, () => {
        last = last.then(serve);
      });
    },
    close: () => ending.abort(),
  };
}
