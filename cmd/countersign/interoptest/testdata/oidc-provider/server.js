// oidc-provider, as an app meets it that is registered there for some of the server's scopes.
// oidcprovider_test.go runs it:
//
//   node server.js '{"app": {"client_id", "client_secret", "redirect_uris", "scope"}, "scopes": […], "logins": […], "pkce": BOOLEAN}'
//
// Its first line of output is its address. All state is in memory.
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { Provider } from 'oidc-provider';

const { app, scopes, logins, pkce } = JSON.parse(process.argv[2]);

const server = createServer();
server.listen(0, '127.0.0.1');
await once(server, 'listening');
const issuer = `http://localhost:${server.address().port}`;

const provider = new Provider(issuer, {
  clients: [{
    ...app,
    grant_types: ['authorization_code', 'refresh_token'],
    response_types: ['code'],
    token_endpoint_auth_method: 'client_secret_basic',
  }],
  cookies: { keys: [randomBytes(32).toString('hex')] },
  features: {
    devInteractions: { enabled: true }, // login and consent pages; any password will do
    introspection: { enabled: true },
  },
  findAccount: (_, login) => logins.includes(login) && { accountId: login, claims: () => ({ sub: login }) },
  pkce: { required: () => pkce },
  rotateRefreshToken: true,
  scopes,
});
server.on('request', provider.callback());

console.log(issuer);
