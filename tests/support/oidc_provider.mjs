// panva's oidc-provider with one client, as argv[2] describes it; prints its port. With argv[3] it speaks TLS.
import { createServer } from "node:https";
import { createServer as createPlainServer } from "node:http";
import { readFileSync } from "node:fs";
import { Provider } from "oidc-provider";

const { client, tls } = JSON.parse(process.argv[2]);
const certificate = (ctx) => ctx.socket.getPeerX509Certificate?.();
let handle;
const listener = (request, response) => handle(request, response);
const server = tls
  ? createServer(
      { key: readFileSync(tls.key), cert: readFileSync(tls.cert), ca: readFileSync(tls.ca), requestCert: true },
      listener,
    )
  : createPlainServer(listener);
server.listen(0, "127.0.0.1", () => {
  const { port } = server.address();
  const issuer = `${tls ? "https" : "http"}://127.0.0.1:${port}`;
  const provider = new Provider(issuer, {
    clients: [{ redirect_uris: [], response_types: [], grant_types: ["client_credentials"], ...client }],
    clientAuthMethods: ["client_secret_post", "client_secret_basic", "private_key_jwt", "tls_client_auth"],
    enabledJWA: { clientAuthSigningAlgValues: ["RS256", "PS256", "ES256", "EdDSA", "Ed25519"] },
    features: {
      clientCredentials: { enabled: true },
      devInteractions: { enabled: false },
      mTLS: {
        enabled: true,
        tlsClientAuth: true,
        getCertificate: certificate,
        certificateAuthorized: (ctx) => ctx.socket.authorized,
        certificateSubjectMatches: (ctx, property, expected) =>
          property === "tls_client_auth_san_dns" && certificate(ctx).checkHost(expected) === expected,
      },
    },
  });
  handle = provider.callback();
  console.log(JSON.stringify({ issuer }));
});
