// An authorization server that nobody here wrote (oidc-provider, certified by the OpenID Foundation)
// with the one call of Constant Contact's API that a consent needs. parts_test.go runs it:
//
//   node server.js '{"app": {"client_id", "client_secret", "redirect_uris"}, "accounts": {LOGIN: SUMMARY}}'
//
// Its first line of output is its address. All state is in memory.
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { Provider } from 'oidc-provider';

const { app, accounts } = JSON.parse(process.argv[2]);

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
  features: { devInteractions: { enabled: true } }, // login and consent pages; any password will do
  findAccount: (_, login) => accounts[login] && { accountId: login, claims: () => ({ sub: login }) },
  pkce: { required: () => true },
  rotateRefreshToken: true,
  scopes: ['account_read', 'contact_data', 'campaign_data', 'offline_access'],
});
const authorization = provider.callback();

// summary answers which account an access token opens, as Constant Contact does.
async function summary(request) {
  const value = request.headers.authorization?.match(/^Bearer (.+)$/)?.[1];
  const token = value && await provider.AccessToken.find(value);
  if (!token) {
    return [401, { error_key: 'unauthorized', error_message: 'Unauthorized' }];
  }
  if (!token.scopes.has('account_read')) {
    return [403, { error_key: 'access_denied', error_message: 'Request forbidden due to insufficient user privileges.' }];
  }
  return [200, accounts[token.accountId]];
}

server.on('request', async (request, response) => {
  if (request.method !== 'GET' || request.url !== '/v3/account/summary') {
    authorization(request, response);
    return;
  }
  const [status, body] = await summary(request);
  response.writeHead(status, { 'Content-Type': 'application/json' }).end(JSON.stringify(body));
});

console.log(issuer);
