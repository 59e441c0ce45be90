//! `cargo demo`: a whole pod as plain processes on this machine, from the first init step to the last log line.
//!
//! ```text
//!                 ┌──────────────────────────── the pod ─────────────────────────────┐
//!   clients ────► │ podkit-proxy ──► app ──► logs/app.log ──► podkit-ship ───────────┼──► log backend
//!   (load)        │      ▲            │ ▲                          ▲                 │    (backend, sequence)
//!   database ◄────┼── podkit-proxy ◄──┘ └ config ◄─ podkit-seed    │                 │
//!   (database)    │      └─────────────── podkit-drain ────────────┘                 │
//!                 └──────────────────────────────────────────────────────────────────┘
//!   options ─► binaries (cargo build) ─► volumes, spec ─► kubelet (pod, probe, chaos) ─► report
//! ```

mod app;
mod backend;
mod binaries;
mod chaos;
mod database;
mod error;
mod journal;
mod kubelet;
mod load;
#[cfg(test)]
mod manifests;
mod options;
mod outside;
mod pod;
mod probe;
#[cfg(test)]
mod promises;
mod rehearsal;
mod report;
mod screen;
mod sequence;
mod spec;
mod termination;
mod volumes;
mod websocket;

use std::process::ExitCode;

use podkit_cli::{Exit, chain};

use crate::{
    backend::Backend,
    binaries::Binaries,
    error::Error,
    kubelet::Kubelet,
    options::{Command, Options, Refusal},
    report::Report,
    screen::Screen,
    spec::{Addresses, Settings, Spec},
    volumes::Volumes,
};

fn main() -> ExitCode {
    let command = match options::parse(std::env::args_os()) {
        Ok(command) => command,
        Err(Refusal::Asked(text)) => {
            Screen::new().raw(&text);
            return Exit::Done.into();
        }
        Err(Refusal::Usage(line)) => return end(Exit::Usage, &line),
    };
    // One thread: the children's parent-death signal is bound to it, and a pod of this size needs no more.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = runtime.map_err(Error::io("start the runtime")).and_then(|runtime| match command {
        Command::App { config } => runtime.block_on(app::run(&config)).map(|()| Exit::Done),
        Command::Outside(options) => runtime.block_on(outside::run(options)),
        Command::Rehearsal(options) => runtime.block_on(rehearsal::rehearse(&options, &Screen::new())),
        Command::Timeline(options) => runtime.block_on(rehearsal::timeline(&options, &Screen::new())),
        Command::Pod(options) => runtime.block_on(demo(&options)),
    });
    match outcome {
        Ok(exit) => exit.into(),
        Err(error @ Error::Keep(_)) => end(Exit::Usage, &chain(&error)),
        Err(error) => end(Exit::Failed, &chain(&error)),
    }
}

#[expect(clippy::print_stderr, reason = "the one place that tells why there is no demo")]
fn end(exit: Exit, line: &str) -> ExitCode {
    eprintln!("local-pod: {line}");
    exit.into()
}

async fn demo(options: &Options) -> Result<Exit, Error> {
    let screen = Screen::new();
    let volumes = Volumes::create(options.keep.as_deref())?;
    let binaries = Binaries::build(&screen).await?;
    screen.line("build", "done");
    screen.restart_clock();

    let backend = Backend::open().await?;
    let (addresses, ports) = Addresses::reserve()?;
    let settings = Settings::demo(options.chaos);
    let spec = Spec::write(&volumes, &binaries, &addresses, backend.address(), &settings)?;
    let kubelet = Kubelet::new(&screen, &spec, &addresses, &backend, options, settings.grace);
    let life = kubelet.live(ports).await;
    let report = Report::new(life, &volumes, &backend.stored(), screen.zero().elapsed())?;
    screen.raw(&format!("\n{}\n", report.table()));
    Ok(verdict(&screen, &report, &volumes))
}

fn verdict(screen: &Screen, report: &Report, volumes: &Volumes) -> Exit {
    /// Enough for an error and what led to it.
    const TAIL: usize = 12;
    if volumes.is_kept() {
        screen.raw(&format!("  files: {}\n", volumes.path("").display()));
    }
    let problems = report.problems();
    if problems.is_empty() {
        screen.raw("  nothing was lost, and every process ended with 0\n");
        return Exit::Done;
    }
    for problem in problems {
        screen.raw(&format!("  PROBLEM: {problem}\n"));
    }
    for suspect in report.suspects() {
        screen.raw(&format!("\n  the last lines of {suspect}:\n"));
        for line in volumes.tail(suspect, TAIL) {
            screen.raw(&format!("    {line}\n"));
        }
    }
    screen.raw(match volumes.is_kept() {
        true => "\n  hint: log/ in that directory has the whole output of each process\n",
        false => "\n  hint: --keep DIR keeps the log files and the whole output of each process\n",
    });
    Exit::Failed
}
