//! Programs as processes: started, waited for, ended; none outlives whoever started it.
//!
//! A server is *tied*: it holds the reading end of a pipe as its standard input and ends when the other end closes, which the kernel
//! does whatever becomes of the process that started it.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::failure::Failure;
use crate::{agent, machine};

/// Between two looks at a process.
const PULSE: Duration = Duration::from_millis(2);
/// How long a server may take until it serves, and until it has stopped: generous, because machines are busy.
const SERVER: Duration = Duration::from_secs(60);
/// How long any other program may take, unless [`Programs::without_limit`].
const PROGRAM: Duration = Duration::from_secs(120);

/// A list of arguments from anything that makes an [`OsString`].
#[macro_export]
macro_rules! arguments {
    ($($argument:expr),* $(,)?) => { [$(::std::ffi::OsString::from($argument)),*] };
}

/// Which program a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// `portcullis-broker`.
    Broker,
    /// `portcullis-guest`.
    Guest,
    /// `portcullis`.
    Command,
    /// The evidence agent over a soft machine; see [`machine::run_agent`].
    Agent,
    /// The agent of the agent's story; see [`agent::agent`].
    DemoAgent,
    /// The tool that it uses; see [`agent::tool_server`].
    DemoTool,
}

impl Part {
    const ALL: [Self; 6] = [Self::Broker, Self::Guest, Self::Command, Self::Agent, Self::DemoAgent, Self::DemoTool];

    /// The name of the program.
    #[must_use]
    pub const fn program(self) -> &'static str {
        match self {
            Self::Broker => "portcullis-broker",
            Self::Guest => "portcullis-guest",
            Self::Command => "portcullis",
            Self::Agent => "soft-evidence-agent",
            Self::DemoAgent => "demo-agent",
            Self::DemoTool => "demo-tool",
        }
    }

    fn run(self, arguments: Vec<OsString>) -> ExitCode {
        match self {
            Self::Broker => broker::run(arguments),
            Self::Guest => guest_client::run(arguments),
            Self::Command => cli::run(arguments),
            Self::Agent => machine::run_agent(arguments),
            Self::DemoAgent => agent::agent(&arguments),
            Self::DemoTool => agent::tool_server(&arguments),
        }
    }
}

/// `--as PART`: be this program.
const AS: &str = "--as";
/// `--tied-as PART`: the same, until standard input ends.
const TIED_AS: &str = "--tied-as";

/// Is the program that the arguments (program name first) name by `--as PART`, or by the program's name itself, which is how a guest
/// starts itself again. `None`: they name none.
#[must_use]
pub fn dispatch(arguments: &[OsString]) -> Option<ExitCode> {
    if let Some(part) = Part::ALL.into_iter().find(|part| arguments.first().is_some_and(|name| name == part.program())) {
        return Some(part.run(arguments.to_vec()));
    }
    let [_, how, part, rest @ ..] = arguments else { return None };
    let part = Part::ALL.into_iter().find(|candidate| part == candidate.program())?;
    match how.to_str() {
        Some(AS) => {}
        Some(TIED_AS) => tie(),
        _ => return None,
    }
    let program = std::iter::once(OsString::from(part.program()));
    Some(part.run(program.chain(rest.iter().cloned()).collect()))
}

/// Ends this process when its standard input does.
fn tie() {
    thread::spawn(|| {
        // Whatever comes, data or an error: only the end counts.
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(1);
    });
}

/// How a program ended, and what it said.
#[derive(Clone, Debug)]
pub struct Ended {
    /// The command line, as people would type it.
    pub line: String,
    /// The exit code; -1 where a signal ended it.
    pub code: i32,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Ended {
    /// Itself, if it ended with this exit code.
    ///
    /// # Errors
    /// [`Failure::Exit`].
    pub fn expect(self, code: i32) -> Result<Self, Failure> {
        if self.code == code {
            return Ok(self);
        }
        let output = format!("{}{}", self.stdout, self.stderr);
        Err(Failure::Exit { line: self.line, expected: code, found: self.code, output })
    }

    /// Its standard output as JSON.
    ///
    /// # Errors
    /// [`Failure::Unexpected`].
    pub fn json(&self) -> Result<serde_json::Value, Failure> {
        serde_json::from_str(&self.stdout).map_err(|error| Failure::Unexpected {
            what: self.line.clone(),
            expected: "JSON on standard output".to_owned(),
            found: format!("{error} in: {}{}", self.stdout, self.stderr),
        })
    }
}

/// Where programs run, and with what around them.
#[derive(Clone, Debug)]
pub struct Programs {
    executable: PathBuf,
    container: Vec<String>,
    folder: PathBuf,
    environment: BTreeMap<&'static str, OsString>,
    limit: Option<Duration>,
    interrupted: Arc<AtomicBool>,
}

impl Programs {
    /// Programs that are all this `executable`, and run in `folder`.
    #[must_use]
    pub fn new(executable: impl Into<PathBuf>, folder: impl Into<PathBuf>) -> Self {
        Self {
            executable: executable.into(),
            container: Vec::new(),
            folder: folder.into(),
            environment: BTreeMap::new(),
            limit: Some(PROGRAM),
            interrupted: Arc::default(),
        }
    }

    /// The same, and a program may take as long as it needs.
    #[must_use]
    pub fn without_limit(self) -> Self {
        Self { limit: None, ..self }
    }

    /// The same in a container: the program `container[0]`, with the arguments behind it, starts `executable` as its one child.
    #[must_use]
    pub fn within(&self, container: Vec<String>, executable: PathBuf) -> Self {
        Self { container, executable, ..self.clone() }
    }

    /// The same, ended by `interrupted`: programs are killed then, and [`Failure::Interrupted`] is what comes back.
    #[must_use]
    pub fn interrupted_by(self, interrupted: Arc<AtomicBool>) -> Self {
        Self { interrupted, ..self }
    }

    /// The file that all of them are.
    #[must_use]
    pub fn executable(&self) -> &Path {
        &self.executable
    }

    /// The folder that they run in.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The same with one more variable in their environment.
    #[must_use]
    pub fn with(&self, name: &'static str, value: impl Into<OsString>) -> Self {
        let mut programs = self.clone();
        programs.set(name, value);
        programs
    }

    /// Sets a variable of their environment.
    pub fn set(&mut self, name: &'static str, value: impl Into<OsString>) {
        self.environment.insert(name, value.into());
    }

    /// Runs a program to its end.
    ///
    /// # Errors
    /// [`Failure::Start`], [`Failure::TimedOut`], [`Failure::Interrupted`].
    pub fn run(&self, part: Part, arguments: impl IntoIterator<Item = OsString>) -> Result<Ended, Failure> {
        self.run_with(part, arguments, &[])
    }

    /// Runs a program to its end, with this on its standard input.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn run_with(&self, part: Part, arguments: impl IntoIterator<Item = OsString>, input: &[u8]) -> Result<Ended, Failure> {
        let arguments: Vec<OsString> = arguments.into_iter().collect();
        let line = line(part, &arguments);
        let mut child = Owned(self.spawn(AS, part, &arguments, &line)?);
        let output = [child.0.stdout.take().map(read), child.0.stderr.take().map(read)];
        if let Some(mut stdin) = child.0.stdin.take() {
            // A program that does not read its input ends all the same.
            let _ = stdin.write_all(input);
        }
        let status = self.wait(&mut child.0, self.limit, &line)?;
        let [stdout, stderr] = output.map(|thread| thread.map(joined).unwrap_or_default());
        Ok(Ended { line, code: status.code().unwrap_or(-1), stdout, stderr })
    }

    /// Starts a server, and waits until a line of its standard error is one that `ready` makes something of.
    ///
    /// # Errors
    /// [`Failure::Start`], [`Failure::NotServing`], [`Failure::Interrupted`].
    pub fn serve(
        &self,
        part: Part,
        arguments: impl IntoIterator<Item = OsString>,
        ready: fn(&str) -> Option<String>,
    ) -> Result<Server, Failure> {
        let arguments: Vec<OsString> = arguments.into_iter().collect();
        let line = line(part, &arguments);
        let mut child = Owned(self.spawn(TIED_AS, part, &arguments, &line)?);
        // A full pipe would stop it: nobody reads what a server says on standard output.
        let quiet = child.0.stdout.take().map(read);
        let log = Arc::new(Mutex::new(String::new()));
        let (sender, answers) = mpsc::channel();
        let reader = child.0.stderr.take().map(|stderr| {
            let log = Arc::clone(&log);
            thread::spawn(move || {
                for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                    if let Some(answer) = ready(&line) {
                        // Only the first is waited for.
                        let _ = sender.send(answer);
                    }
                    let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
                    log.push_str(&line);
                    log.push('\n');
                }
            })
        });
        let mut server = Server { child, line, log, readers: [reader], quiet, answer: String::new(), programs: self.clone() };
        let until = Instant::now() + SERVER;
        loop {
            match answers.recv_timeout(PULSE) {
                Ok(answer) => {
                    server.answer = answer;
                    return Ok(server);
                }
                Err(RecvTimeoutError::Timeout) if self.is_interrupted() => return Err(Failure::Interrupted),
                Err(RecvTimeoutError::Timeout) if Instant::now() < until => {}
                Err(_) => return Err(Failure::NotServing { line: server.line.clone(), log: server.log() }),
            }
        }
    }

    fn spawn(&self, how: &str, part: Part, arguments: &[OsString], line: &str) -> Result<Child, Failure> {
        let mut words = self.container.iter().map(OsStr::new).chain([self.executable.as_os_str()]);
        let mut command = Command::new(words.next().unwrap_or(self.executable.as_os_str()));
        command.args(words).args([how, part.program()]).args(arguments).current_dir(&self.folder);
        // What the person who runs this has set for brokers of their own must not reach these.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PORTCULLIS_")) {
            command.env_remove(name);
        }
        command.envs(&self.environment).env("TERMINATION_LOG", self.folder.join("termination-log"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // A group of its own: Ctrl-C reaches whoever started it, who then ends it in order.
        command.process_group(0);
        command.spawn().map_err(|error| Failure::Start { line: line.to_owned(), error })
    }

    fn wait(&self, child: &mut Child, limit: Option<Duration>, line: &str) -> Result<ExitStatus, Failure> {
        let began = Instant::now();
        loop {
            match child.try_wait() {
                Ok(Some(status)) => return Ok(status),
                Ok(None) if self.is_interrupted() => return Err(Failure::Interrupted),
                Ok(None) => {}
                Err(error) => return Err(Failure::Start { line: line.to_owned(), error }),
            }
            match limit {
                Some(limit) if began.elapsed() > limit => return Err(Failure::TimedOut { line: line.to_owned(), after: limit }),
                _ => thread::sleep(PULSE),
            }
        }
    }

    fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }
}

/// The command line as people would type it.
fn line(part: Part, arguments: &[OsString]) -> String {
    let quoted = |argument: &OsStr| {
        let text = argument.to_string_lossy();
        if text.is_empty() || text.contains([' ', '\'', '"']) { format!("'{text}'") } else { text.into_owned() }
    };
    std::iter::once(part.program().to_owned()).chain(arguments.iter().map(|argument| quoted(argument))).collect::<Vec<_>>().join(" ")
}

/// Reads a stream to its end.
fn read(mut stream: impl Read + Send + 'static) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // What came before an error is what there is to show.
        let _ = stream.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

fn joined(thread: JoinHandle<String>) -> String {
    thread.join().unwrap_or_default()
}

/// A process that ends with its owner.
struct Owned(Child);

impl Drop for Owned {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A running server; dropping it kills it.
pub struct Server {
    child: Owned,
    line: String,
    log: Arc<Mutex<String>>,
    readers: [Option<JoinHandle<()>>; 1],
    quiet: Option<JoinHandle<String>>,
    answer: String,
    programs: Programs,
}

impl Server {
    /// The command line, as people would type it.
    #[must_use]
    pub fn line(&self) -> &str {
        &self.line
    }

    /// What `ready` made of the line that it waited for.
    #[must_use]
    pub fn answer(&self) -> &str {
        &self.answer
    }

    /// What it has said so far on standard error.
    #[must_use]
    pub fn log(&self) -> String {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The server's own process: in a container, its first.
    fn pid(&self) -> Pid {
        let outer = Pid::from_child(&self.child.0);
        if self.programs.container.is_empty() {
            return outer;
        }
        let number = outer.as_raw_nonzero();
        let children = std::fs::read_to_string(format!("/proc/{number}/task/{number}/children")).unwrap_or_default();
        children.split(' ').find_map(|pid| Pid::from_raw(pid.parse().ok()?)).unwrap_or(outer)
    }

    /// Waits until it ends by itself: its exit code, and all that it said on standard error.
    ///
    /// # Errors
    /// [`Failure::TimedOut`], [`Failure::Interrupted`].
    pub fn ended(self, within: Duration) -> Result<Ended, Failure> {
        self.wait(within)
    }

    /// Asks it to stop (SIGTERM), and waits until it has: its exit code, and all that it said on standard error.
    ///
    /// # Errors
    /// [`Failure::TimedOut`], [`Failure::Interrupted`].
    pub fn stop(self) -> Result<Ended, Failure> {
        let pid = self.pid();
        // Where it has ended already, its exit code tells.
        let _ = kill_process(pid, Signal::TERM);
        self.wait(SERVER)
    }

    fn wait(mut self, within: Duration) -> Result<Ended, Failure> {
        let status = self.programs.wait(&mut self.child.0, Some(within), &self.line)?;
        for reader in self.readers.iter_mut().filter_map(Option::take) {
            let _ = reader.join();
        }
        let stdout = self.quiet.take().map(joined).unwrap_or_default();
        Ok(Ended { line: self.line.clone(), code: status.code().unwrap_or(-1), stdout, stderr: self.log() })
    }
}
