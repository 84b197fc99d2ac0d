//! The two programs of the agent's story: an agent that uses a tool over the network, and the server of that tool. Neither knows anything
//! of Portcullis. Each asks the SPIFFE Workload API at `SPIFFE_ENDPOINT_SOCKET` who it is, by the `spiffe` crate, and they prove that to
//! each other by TLS; the agent also has an API key for the tool, in its environment.

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use protocol::encoding::sha256;
use spiffe::{WorkloadApiClient, X509Source};
use spiffe_rustls::{authorizer, mtls_client, mtls_server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// The variable in which the agent finds its API key.
pub const KEY: &str = "SEARCH_API_KEY";
/// What the tool's server says once it listens, before its address.
pub const LISTENING: &str = "listening at ";
/// What the agent says of an answer, before it.
pub const ANSWERED: &str = "the tool answered: ";
/// What the agent says where it is nobody.
pub const NOBODY: &str = "no identity: ";
/// What the agent says where the tool does not talk to it.
pub const REFUSED: &str = "the tool refused: ";

/// Between two uses of the tool.
const PAUSE: Duration = Duration::from_millis(500);
/// The longest question or answer (bytes).
const LINE: u64 = 4096;
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);

type Failed = Box<dyn std::error::Error + Send + Sync>;

fn block_on(program: impl Future<Output = Result<(), Failed>>) -> ExitCode {
    let run = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(program)
    };
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// The tool's server: `CLIENT DIGEST`, whom it serves and the SHA-256 of the key that is good. It serves until it is ended.
#[must_use]
pub fn tool_server(arguments: &[OsString]) -> ExitCode {
    block_on(async {
        let [_, client, digest] = arguments else { return Err("expected: CLIENT DIGEST".into()) };
        let (client, digest) = (client.to_string_lossy().into_owned(), digest.to_string_lossy().into_owned());
        let source = X509Source::new().await?;
        let config = mtls_server(source).authorize(authorizer::exact([client.as_str()])?).build()?;
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        eprintln!("{LISTENING}{}", listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept().await?;
            match tokio::time::timeout(PATIENCE, serve(&acceptor, stream, &client, &digest)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => eprintln!("refused: {error}"),
                Err(_) => eprintln!("refused: too slow"),
            }
        }
    })
}

async fn serve(acceptor: &TlsAcceptor, stream: TcpStream, client: &str, digest: &str) -> Result<(), Failed> {
    let mut stream = acceptor.accept(stream).await?;
    let mut asked = String::new();
    (&mut stream).take(LINE).read_to_string(&mut asked).await?;
    let answer = match asked.split_once('\n') {
        Some((key, question)) if sha256(key.as_bytes()).to_string() == digest => {
            format!("{} results for {question}, {client}", question.len())
        }
        _ => "another API key".to_owned(),
    };
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await?;
    Ok(())
}

/// The agent: `ADDRESS SERVER once|on`. Says on standard error what the tool at ADDRESS answers, which must be SERVER; once, or on and on.
#[must_use]
pub fn agent(arguments: &[OsString]) -> ExitCode {
    block_on(async {
        let [_, address, server, times] = arguments else { return Err("expected: ADDRESS SERVER once|on".into()) };
        let (address, server) = (address.to_string_lossy().into_owned(), server.to_string_lossy().into_owned());
        let key = std::env::var(KEY).unwrap_or_default();
        // A source waits for an identity, whatever it is told: whoever must not have one learns it here.
        let api = WorkloadApiClient::connect_env().await.map_err(|error| format!("{NOBODY}{error}"))?;
        api.fetch_x509_svid().await.map_err(|error| format!("{NOBODY}{error}"))?;
        let source = tokio::time::timeout(PATIENCE, X509Source::new());
        let source = source.await.map_err(|_| format!("{NOBODY}nobody answers"))?.map_err(|error| format!("{NOBODY}{error}"))?;
        eprintln!("I am {}", source.svid().map_err(|error| format!("{NOBODY}{error}"))?.spiffe_id());
        let config = mtls_client(source.clone()).authorize(authorizer::exact([server.as_str()])?).build()?;
        let connector = TlsConnector::from(Arc::new(config));
        loop {
            let asked = tokio::time::timeout(PATIENCE, ask(&connector, &address, &key)).await;
            let answer = asked.map_err(|_| "too slow".into()).flatten();
            let said = answer.as_ref().map_or_else(|error| format!("{REFUSED}{error}"), |answer| format!("{ANSWERED}{answer}"));
            if times == "once" {
                return answer.map(|_| eprintln!("{said}")).map_err(|_| said.into());
            }
            eprintln!("{said}");
            tokio::time::sleep(PAUSE).await;
        }
    })
}

async fn ask(connector: &TlsConnector, address: &str, key: &str) -> Result<String, Failed> {
    let stream = TcpStream::connect(address).await?;
    let mut stream = connector.connect("tools".try_into()?, stream).await?;
    stream.write_all(format!("{key}\nsealed models").as_bytes()).await?;
    stream.shutdown().await?;
    let mut answer = String::new();
    stream.take(LINE).read_to_string(&mut answer).await?;
    if answer.is_empty() { Err("no answer".into()) } else { Ok(answer) }
}
