//! Credentials that a program of this machine gives: `client.authentication.k8s.io` (KEP-541).
//!
//! The client library runs such programs too, but waits for them on the thread of the agent's loop, for ever if need be, and
//! knows no second run of one that says no expiry. Here a program has a time limit and a process group of its own, and ends
//! with whoever waits for it.

use std::io;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, SystemTime};

use http::HeaderValue;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use rustix::process::{Pid, Signal, WaitOptions, kill_process_group, waitpgid};
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use crate::sources::kube::trouble::Trouble;

/// How long a program may take…
const PATIENCE: Duration = Duration::from_secs(30);
/// … and one that asks a person.
const PATIENCE_WITH_PEOPLE: Duration = Duration::from_secs(300);
/// How often it is looked for what a program has left behind.
const REAP_TRIES: u32 = 5;
const REAP_PAUSE: Duration = Duration::from_millis(200);
/// How much it may print.
const MAX_ANSWER: u64 = 1 << 20;
/// How much of its complaints is repeated.
const MAX_COMPLAINT: usize = 300;

/// A program, and all that it is run with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// For whom it is run, as it is told.
    pub user: String,
    /// The version of its answer.
    pub version: String,
    /// A path, or a name that is looked for in PATH.
    pub command: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// What is added to the agent's own environment.
    pub variables: Vec<(String, String)>,
    /// What it is told in `KUBERNETES_EXEC_INFO`.
    pub exec_info: String,
    /// Whether it has the terminal, to ask whoever sits there.
    pub is_interactive: bool,
    /// What to do where it is missing.
    pub install_hint: Option<String>,
}

/// What a program gives.
#[derive(Clone, Debug)]
pub struct Credential {
    /// The header that says who asks.
    pub authorization: Option<HeaderValue>,
    /// What says so while a connection comes about.
    pub certificate: Option<Certificate>,
    /// When it is over.
    pub expires: Option<SystemTime>,
}

/// A client's certificate and its key, in PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificate").finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    kind: String,
    api_version: String,
    status: Option<Status>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    token: Option<String>,
    client_certificate_data: Option<String>,
    client_key_data: Option<String>,
    expiration_timestamp: Option<Time>,
}

/// A program that runs; it ends with this, and so do those that it began.
struct Running {
    child: Child,
    /// Its process group, if it has one of its own.
    group: Option<Pid>,
}

impl Drop for Running {
    fn drop(&mut self) {
        // As long as anybody is in it, its number is no other group's.
        let Some(group) = self.group else { return };
        // They may have ended of themselves.
        let _ = kill_process_group(group, Signal::KILL);
        // The first process of a container inherits them, and nobody else waits for them.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                for _ in 0..REAP_TRIES {
                    sleep(REAP_PAUSE).await;
                    while let Ok(Some(_)) = waitpgid(group, WaitOptions::NOHANG) {}
                }
            });
        }
    }
}

impl Program {
    /// Runs it.
    pub async fn run(&self) -> Result<Credential, Trouble> {
        self.run_within(if self.is_interactive { PATIENCE_WITH_PEOPLE } else { PATIENCE }).await
    }

    async fn run_within(&self, patience: Duration) -> Result<Credential, Trouble> {
        let answer = timeout(patience, self.answer()).await.unwrap_or_else(|_| {
            Err(format!(
                "did not end within {} s, so it was ended; run it by hand to see for what it waits",
                patience.as_secs()
            ))
        });
        answer
            .and_then(|answer| self.read(&answer))
            .map_err(|why| Trouble::no_access(format!("program {} of {} {why}", self.command.display(), self.user)))
    }

    async fn answer(&self) -> Result<Vec<u8>, String> {
        let mut running = self.begin().await.map_err(|error| self.not_run(&error))?;
        let (mut stdout, mut stderr) = (running.child.stdout.take(), running.child.stderr.take());
        let (answer, complaint) = tokio::join!(content(stdout.as_mut()), content(stderr.as_mut()));
        let status = running.child.wait().await.map_err(|error| format!("cannot be waited for: {error}"))?;
        if !status.success() {
            return Err(failed(status, &complaint));
        }
        if answer.len() as u64 >= MAX_ANSWER {
            return Err(format!("printed more than {} MiB", MAX_ANSWER >> 20));
        }
        Ok(answer)
    }

    /// Starts it, where nobody waits: a file system that has the program may hang.
    async fn begin(&self) -> io::Result<Running> {
        let mut command = Command::new(&self.command);
        command
            .args(&self.arguments)
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .env("KUBERNETES_EXEC_INFO", &self.exec_info)
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        if self.is_interactive {
            // A group of its own could not read from the terminal.
            command.stdin(Stdio::inherit()).stderr(Stdio::inherit());
        } else {
            command.stdin(Stdio::null()).stderr(Stdio::piped()).process_group(0);
        }
        let has_group = !self.is_interactive;
        let spawn = move || {
            let child = command.spawn()?;
            let leader = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
            Ok(Running { child, group: leader.filter(|_| has_group) })
        };
        let begun = tokio::task::spawn_blocking(spawn).await;
        begun.map_err(io::Error::other)?
    }

    fn not_run(&self, error: &io::Error) -> String {
        let advice = match (error.kind(), &self.install_hint) {
            (io::ErrorKind::NotFound, Some(hint)) => hint.trim(),
            _ => "have it installed on every node, executable, where execConfig.command says",
        };
        format!("cannot be run: {error}; {advice}")
    }

    /// Reads an answer. What cannot be read is not repeated: it may hold a token.
    fn read(&self, answer: &[u8]) -> Result<Credential, String> {
        let answer: Option<Answer> = serde_saphyr::from_slice(answer).ok();
        let answer = answer.filter(|answer| answer.kind == "ExecCredential" && answer.api_version == self.version);
        let answer = answer.ok_or_else(|| {
            format!("printed no ExecCredential of {}; run it by hand to see what it prints", self.version)
        })?;
        let status = answer.status.ok_or("printed an ExecCredential without a status; it gave no credentials")?;
        let expires = status.expiration_timestamp.map(|time| SystemTime::from(time.0));
        if expires.is_some_and(|expires| expires <= SystemTime::now()) {
            return Err("gave credentials that are over already; see that this node's clock is right".to_owned());
        }
        let text = |text: Option<String>| text.filter(|text| !text.is_empty());
        let authorization = text(status.token).map(|token| bearer(&token)).transpose()?;
        let certificate = match (text(status.client_certificate_data), text(status.client_key_data)) {
            (Some(certificate), Some(key)) => Some(Certificate { certificate, key }),
            (None, None) => None,
            _ => return Err("gave a certificate without its key, or a key without its certificate".to_owned()),
        };
        if authorization.is_none() && certificate.is_none() {
            return Err("gave neither a token nor a certificate".to_owned());
        }
        Ok(Credential { authorization, certificate, expires })
    }
}

fn bearer(token: &str) -> Result<HeaderValue, String> {
    let mut value = HeaderValue::try_from(format!("Bearer {token}"))
        .map_err(|_| "gave a token that fits in no header".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}

/// All that a stream says, as far as it is kept.
async fn content(stream: Option<&mut (impl AsyncRead + Unpin)>) -> Vec<u8> {
    let mut content = Vec::new();
    let Some(stream) = stream else { return content };
    // What cannot be read is missing, and then the answer is none.
    drop(stream.take(MAX_ANSWER).read_to_end(&mut content).await);
    drop(tokio::io::copy(stream, &mut tokio::io::sink()).await);
    content
}

fn failed(status: ExitStatus, complaint: &[u8]) -> String {
    let complaint = String::from_utf8_lossy(complaint);
    let words: Vec<&str> = complaint.split_whitespace().collect();
    let mut complaint = words.join(" ");
    if let Some((end, _)) = complaint.char_indices().nth(MAX_COMPLAINT) {
        complaint.truncate(end);
        complaint.push('…');
    }
    let complaint = if complaint.is_empty() { "it said nothing".to_owned() } else { format!("it said: {complaint}") };
    format!("failed ({status}); {complaint}")
}

#[cfg(test)]
pub(super) mod tests {
    use std::fs;
    use std::time::Instant;

    use super::*;

    const VERSION: &str = "client.authentication.k8s.io/v1";

    /// A program that is a script.
    pub(crate) fn script(text: &str) -> Program {
        Program {
            user: "access provider p".to_owned(),
            version: VERSION.to_owned(),
            command: "/bin/sh".into(),
            arguments: vec!["-c".to_owned(), text.to_owned()],
            variables: vec![("EXTRA".to_owned(), "given".to_owned())],
            exec_info: "info".to_owned(),
            is_interactive: false,
            install_hint: None,
        }
    }

    fn prints(status: &str) -> Program {
        script(&format!("echo '{{\"kind\": \"ExecCredential\", \"apiVersion\": \"{VERSION}\", \"status\": {status}}}'"))
    }

    async fn why(program: &Program) -> String {
        program.run().await.expect_err("it gives nothing").to_string()
    }

    #[tokio::test]
    async fn a_token_and_a_certificate_are_taken() {
        let token =
            prints(r#"{"token": "t", "expirationTimestamp": "2999-01-01T00:00:00Z"}"#).run().await.expect("a token");
        assert_eq!(token.authorization.expect("a header").as_bytes(), b"Bearer t");
        assert!(token.certificate.is_none() && token.expires.is_some());
        let pem = prints(r#"{"clientCertificateData": "c", "clientKeyData": "k"}"#).run().await.expect("a certificate");
        let expect = Certificate { certificate: "c".to_owned(), key: "k".to_owned() };
        assert_eq!((pem.authorization, pem.certificate, pem.expires), (None, Some(expect), None));
    }

    #[tokio::test]
    async fn it_is_told_what_the_file_and_the_interface_say() {
        let told = format!(
            "printf '{{kind: ExecCredential, apiVersion: {VERSION}, status: {{token: %s-%s-%s}}}}' \"$EXTRA\" \
             \"$KUBERNETES_EXEC_INFO\" \"$(wc -c)\""
        );
        let token = script(&told).run().await.expect("a token").authorization.expect("a header");
        assert_eq!(token.as_bytes(), b"Bearer given-info-0", "nobody answers its questions, and YAML will do");
    }

    #[tokio::test]
    async fn what_is_wrong_is_said() {
        let mut missing = script("");
        missing.command = "/nowhere/plugin".into();
        assert!(
            why(&missing).await.starts_with("program /nowhere/plugin of access provider p cannot be run: No such file")
        );
        missing.install_hint = Some(" fetch it ".to_owned());
        assert!(why(&missing).await.ends_with("; fetch it"));
        for (program, expect) in [
            (script("echo no account >&2; exit 3"), "failed (exit status: 3); it said: no account"),
            (script("kill -9 $$"), "it said nothing"),
            (script("echo secret"), "printed no ExecCredential of client.authentication.k8s.io/v1;"),
            (
                script("echo '{kind: ExecCredential, apiVersion: client.authentication.k8s.io/v1beta1}'"),
                "no ExecCredential of",
            ),
            (script("head -c 2000000 /dev/zero"), "printed more than 1 MiB"),
            (prints("null"), "without a status"),
            (prints("{}"), "neither a token"),
            (prints(r#"{"token": ""}"#), "neither a token"),
            (prints(r#"{"token": "a\\nb"}"#), "fits in no header"),
            (prints(r#"{"clientKeyData": "k"}"#), "without its certificate"),
            (prints(r#"{"token": "t", "expirationTimestamp": "2020-01-01T00:00:00Z"}"#), "over already"),
        ] {
            let why = why(&program).await;
            assert!(why.contains(expect) && !why.contains("secret"), "{why}");
        }
        let long = why(&script("head -c 100000 /dev/zero | tr '\\0' x >&2; exit 1")).await;
        assert!(long.len() < 500, "{long}");
    }

    #[tokio::test]
    async fn one_that_hangs_ends_with_all_that_it_began() {
        let folder = tempfile::tempdir().expect("a directory");
        let file = folder.path().join("pid");
        let program = script(&format!("sleep 1000 & echo $! > {0}.new; mv {0}.new {0}; wait", file.display()));
        let begun = Instant::now();
        let why = program.run_within(Duration::from_secs(1)).await.expect_err("it hangs").to_string();
        assert!(why.contains("did not end within 1 s") && begun.elapsed() < Duration::from_secs(20), "{why}");
        let pid = fs::read_to_string(&file).expect("it began");
        let state = format!("/proc/{}/stat", pid.trim());
        while fs::read_to_string(&state).is_ok_and(|stat| !stat.contains(") Z ")) {
            assert!(begun.elapsed() < Duration::from_secs(20), "what it began runs on");
            sleep(Duration::from_millis(10)).await;
        }
    }

    #[tokio::test]
    async fn what_a_program_leaves_running_ends_with_it_though_it_gave_credentials() {
        let folder = tempfile::tempdir().expect("a directory");
        let file = folder.path().join("pid");
        let credentials = format!("{{kind: ExecCredential, apiVersion: {VERSION}, status: {{token: t}}}}");
        let program = script(&format!("sleep 20 >&- 2>&1 & echo $! > {}; echo '{credentials}'", file.display()));
        program.run().await.expect("a token");
        let pid = fs::read_to_string(&file).expect("it began");
        let state = format!("/proc/{}/stat", pid.trim());
        let begun = Instant::now();
        while fs::read_to_string(&state).is_ok_and(|stat| !stat.contains(") Z ")) {
            assert!(begun.elapsed() < Duration::from_secs(10), "what it began runs on");
            sleep(Duration::from_millis(10)).await;
        }
    }
}
