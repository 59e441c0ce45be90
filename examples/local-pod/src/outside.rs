//! `local-pod outside`: all that is outside of a pod which somebody else runs: its clients, its database and its log
//! backend, and the table at the end.
//!
//! Whoever plays the kubelet, a script or a person, says on stdin what happens to the pod, one [`Word`] a line. Each
//! is carried out and then answered with one line on stdout, so that a script knows when to go on; only `report` has
//! more to say. It starts no process and sees of the pod what any outside sees, but for two folders: the log volume, to
//! know what should have arrived, and the output of the containers.

use std::{
    io::BufRead,
    mem,
    net::SocketAddr,
    path::PathBuf,
    time::{Duration, Instant},
};

use podkit_cli::Exit;
use tokio::{sync::mpsc, time::sleep};

use crate::{
    backend::Backend,
    database::Database,
    error::Error,
    kubelet::Life,
    load::{Counts, Load},
    pod::End,
    report::Report,
    screen::Screen,
    volumes::Volumes,
};

/// How long answers, and lines on their way from the app to the backend, may take before the pod is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often to look what has arrived.
const LOOK: Duration = Duration::from_millis(20);

/// The containers of the pod, as `end` names them.
const CONTAINERS: [&str; 6] = ["install", "seed", "ship", "proxy", "app", "drain"];

/// The phases of the table, as `phase` names them.
const PHASES: [&str; 7] = ["init", "start", "load", "restarts", "preStop", "stop", "again"];

/// Where the pod is to be met.
#[derive(Debug, PartialEq)]
pub(crate) struct Options {
    /// What clients know: the pod's published port.
    pub(crate) target: SocketAddr,
    /// Where the database is to listen, for the proxy's outbound listener and for seed.
    pub(crate) database: SocketAddr,
    /// Where the log backend is to listen, for ship.
    pub(crate) backend: SocketAddr,
    /// `logs/` there is the log volume, and `log/` has the output of the containers, as with `cargo demo --keep`.
    pub(crate) pod: PathBuf,
    /// Requests per second.
    pub(crate) rate: u32,
}

/// What can be said on stdin.
#[derive(Debug, PartialEq)]
enum Word {
    /// A phase begins; the one before it is over.
    Phase(&'static str),
    /// The database opens; until then seed finds nobody there.
    Database,
    /// The clients come.
    Load,
    /// The clients go; done when all that was under way is answered.
    Leave,
    /// Done when so many more requests were answered.
    Serves(u64),
    /// Done when so many more lines have arrived at the backend.
    Delivers(u64),
    /// From here on requests may fail, for a reason that the table tells: they are counted apart.
    Outage,
    /// The outage is over; done when all that was under way in it has ended.
    Over,
    /// Ship will be killed now: what arrives twice from here on was in flight.
    Kill,
    /// Something that the pod's keeper has done, for whoever reads.
    Note(String),
    /// A container has ended.
    End(&'static str, End),
    /// The table and the verdict.
    Report,
}

impl Word {
    fn parse(line: &str) -> Result<Self, Error> {
        let unknown = || Error::Outside(format!("{line:?} on stdin is no word of `outside`"));
        let one_of = |known: &[&'static str], name: &str| {
            known.iter().find(|known| **known == name).copied().ok_or_else(unknown)
        };
        let words: Vec<_> = line.split_ascii_whitespace().collect();
        Ok(match words[..] {
            ["phase", name] => Self::Phase(one_of(&PHASES, name)?),
            ["database"] => Self::Database,
            ["load"] => Self::Load,
            ["leave"] => Self::Leave,
            ["delivers", lines] => Self::Delivers(lines.parse().map_err(|_| unknown())?),
            ["serves", requests] => Self::Serves(requests.parse().map_err(|_| unknown())?),
            ["outage"] => Self::Outage,
            ["over"] => Self::Over,
            ["kill"] => Self::Kill,
            ["end", name, code] => {
                Self::End(one_of(&CONTAINERS, name)?, End::Code(code.parse().map_err(|_| unknown())?))
            }
            ["note", _, ..] => Self::Note(words[1..].join(" ")),
            ["report"] => Self::Report,
            _ => return Err(unknown()),
        })
    }
}

/// Does what stdin says, until `report`.
pub(crate) async fn run(options: Options) -> Result<Exit, Error> {
    let mut outside = Outside::open(options).await?;
    let mut lines = stdin();
    while let Some(line) = lines.recv().await {
        match Word::parse(&line)? {
            Word::Report => return outside.report().await,
            word => outside.act(word).await?,
        }
    }
    Err(Error::Outside("stdin has ended before `report`".into()))
}

/// The lines of stdin. The thread ends with the process: nothing interrupts a read from there.
fn stdin() -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

struct Outside {
    options: Options,
    screen: Screen,
    volumes: Volumes,
    backend: Backend,
    database: Option<Database>,
    load: Option<Load>,
    phase: Option<(&'static str, Instant)>,
    life: Life,
    /// Of the outages.
    apart: Counts,
    outage: bool,
}

impl Outside {
    async fn open(options: Options) -> Result<Self, Error> {
        Ok(Self {
            screen: Screen::new(),
            volumes: Volumes::of(&options.pod),
            backend: Backend::open_at(options.backend).await?,
            options,
            database: None,
            load: None,
            phase: None,
            life: Life::default(),
            apart: Counts::default(),
            outage: false,
        })
    }

    async fn act(&mut self, word: Word) -> Result<(), Error> {
        let told = match word {
            Word::Phase(name) => {
                self.end_phase();
                self.phase = Some((name, Instant::now()));
                format!("phase {name}")
            }
            Word::Database => {
                self.database = Some(Database::open(self.options.database).await?);
                "the database opens".to_owned()
            }
            Word::Load => {
                self.leave().await;
                self.load = Some(Load::start(self.options.target, self.options.rate));
                format!("{} requests a second", self.options.rate)
            }
            Word::Leave => {
                self.leave().await;
                format!("traffic goes elsewhere: {}", progress(&self.life.load))
            }
            Word::Serves(requests) => {
                self.reaches(requests, "requests were not answered", |outside| {
                    outside.counts().took.len() as u64
                })
                .await?;
                progress(&self.counts())
            }
            Word::Delivers(lines) => {
                self.reaches(lines, "lines did not reach the backend", Self::delivered).await?;
                format!("{}; {} lines at the backend", progress(&self.counts()), self.delivered())
            }
            Word::Outage => {
                if let Some(load) = &self.load {
                    self.life.load.absorb(mem::take(&mut *load.counts()));
                }
                self.outage = true;
                "an outage begins: what fails now is counted apart".to_owned()
            }
            Word::Over => {
                let goes_on = self.load.is_some();
                self.leave().await;
                self.outage = false;
                if goes_on {
                    self.load = Some(Load::start(self.options.target, self.options.rate));
                }
                format!("the outage is over: in all outages {}", progress(&self.apart))
            }
            Word::Kill => {
                self.backend.next_wave();
                self.life.kills += 1;
                "ship will be killed".to_owned()
            }
            Word::End(container, end) => {
                self.life.ends.push((container, end));
                format!("{container} has ended with {end}")
            }
            Word::Note(text) => text,
            Word::Report => return Ok(()),
        };
        let phase = self.phase.map_or("outside", |(name, _)| name);
        self.screen.line(phase, told);
        Ok(())
    }

    async fn leave(&mut self) {
        let Some(load) = self.load.take() else { return };
        let counts = load.leave().await;
        if self.outage { &mut self.apart } else { &mut self.life.load }.absorb(counts);
    }

    /// Those of the running load included.
    fn counts(&self) -> Counts {
        let mut counts = self.life.load.clone();
        if let (Some(load), false) = (&self.load, self.outage) {
            counts.absorb(load.counts().clone());
        }
        counts
    }

    fn delivered(&self) -> u64 {
        self.backend.stored().tally.delivered()
    }

    /// Waits until `count` has grown by `more`; `what` says what else is wrong.
    async fn reaches(&self, more: u64, what: &str, count: impl Fn(&Self) -> u64) -> Result<(), Error> {
        let (goal, deadline) = (count(self) + more, Instant::now() + PATIENCE);
        while count(self) < goal {
            if Instant::now() > deadline {
                let (missing, limit) = (goal - count(self), PATIENCE.as_secs());
                let told = progress(&self.counts());
                return Err(Error::Outside(format!("{missing} of {more} {what} within {limit}s; {told}")));
            }
            sleep(LOOK).await;
        }
        Ok(())
    }

    fn end_phase(&mut self) {
        if let Some((name, start)) = self.phase.take() {
            self.life.phases.push((name, start.elapsed()));
        }
    }

    async fn report(mut self) -> Result<Exit, Error> {
        self.leave().await;
        self.end_phase();
        let repeated = self.backend.stored().tally.compare(&self.volumes.written()?.numbers).unexplained;
        if repeated > 0 {
            self.life.faults.push(format!("lines that arrived twice without a kill of ship: {repeated}"));
        }
        if self.life.load.sent == 0 {
            self.life.faults.push("no request was sent".into());
        }
        let total = self.screen.zero().elapsed();
        let report = Report::new(self.life, &self.volumes, &self.backend.stored(), total)?;
        self.screen.raw(&format!("\n{}", report.table()));
        if self.apart.sent > 0 {
            self.screen.raw(&format!("\n  counted apart, in outages: {}\n", progress(&self.apart)));
            for (reason, count) in &self.apart.failed {
                self.screen.raw(&format!("    {count:>4} with {reason}\n"));
            }
        }
        self.screen.raw("\n");
        Ok(crate::verdict(&self.screen, &report, &self.volumes))
    }
}

fn progress(counts: &Counts) -> String {
    let (sent, failed) = counts.progress();
    format!("{sent} requests, {failed} failed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_understood_or_refused_as_it_stands() {
        let end = Word::End("ship", End::Code(75));
        for (line, word) in [
            ("phase init", Word::Phase("init")),
            ("delivers 12", Word::Delivers(12)),
            ("end ship 75", end),
            ("note ship  starts again", Word::Note("ship starts again".into())),
            (" report ", Word::Report),
        ] {
            assert_eq!(Word::parse(line).unwrap(), word);
        }
        for line in
            ["", "note", "phase", "phase x", "delivers", "delivers -1", "end ship", "end nobody 0", "load 5"]
        {
            let error = Word::parse(line).unwrap_err().to_string();
            assert_eq!(error, format!("{line:?} on stdin is no word of `outside`"));
        }
    }

    /// An outside whose clients find `listener`.
    async fn outside(listener: &tokio::net::TcpListener, dir: &tempfile::TempDir) -> Outside {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let target = listener.local_addr().unwrap();
        let pod = dir.path().to_owned();
        Outside::open(Options { target, database: any, backend: any, pod, rate: 100 }).await.unwrap()
    }

    async fn until_some_failed(outside: &Outside) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while outside.load.as_ref().unwrap().counts().failures() < 5 && Instant::now() < deadline {
            sleep(LOOK).await;
        }
    }

    #[tokio::test]
    async fn what_fails_in_an_outage_is_counted_apart_and_what_fails_after_it_is_not() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let mut outside = outside(&listener, &dir).await;
        drop(listener);
        outside.act(Word::Outage).await.unwrap();
        outside.act(Word::Load).await.unwrap();
        until_some_failed(&outside).await;
        outside.act(Word::Over).await.unwrap();
        assert!(outside.apart.failures() >= 5, "{:?}", outside.apart);
        assert_eq!(outside.life.load, Counts::default());
        until_some_failed(&outside).await;
        outside.act(Word::Leave).await.unwrap();
        assert!(outside.life.load.failures() >= 5, "{:?}", outside.life.load);
    }

    #[tokio::test]
    async fn a_repeat_without_a_kill_a_loss_and_no_traffic_are_failures() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("logs")).unwrap();
        std::fs::write(dir.path().join("logs/app.log"), "INFO seq=1 a\nINFO seq=2 b\n").unwrap();
        for (arrived, sent, exit) in [
            (&[1, 2][..], 1, Exit::Done),
            (&[1, 2, 2], 1, Exit::Failed),
            (&[1], 1, Exit::Failed),
            (&[1, 2], 0, Exit::Failed),
        ] {
            let mut outside = outside(&listener, &dir).await;
            outside.life.load.sent = sent;
            arrived.iter().for_each(|&seq| outside.backend.stored().tally.arrived(seq, 0));
            assert_eq!(outside.report().await.unwrap(), exit, "{arrived:?}, {sent} requests");
        }
    }
}
