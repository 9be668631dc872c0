//! Bytes between programs, clients and the log.

use super::client::Client;
use super::note;
use super::serve::Shim;
use super::session::{INIT, Session};
use crate::Error;
use crate::log::Stream;
use crate::protocol::{CHUNK, Failure, FrameType, MAX_LAG, STDIN_WINDOW, frame, json_frame};
use rustix::event::PollFlags;
use rustix::io::Errno;
use std::rc::Rc;

/// At most this much is taken of what an ended process left in its pipes; they hold far less.
const MAX_LEFTOVER: usize = 16 * 1024 * 1024;
/// What is looked at to recognise a failed execve.
const STDERR_HEAD: usize = 4096;

impl Shim {
    pub(super) fn accept_console(&mut self, key: u64) {
        let (dir, init_stdin) = (self.config.dir.clone(), self.config.open_stdin);
        let requester_stdin =
            |clients: &[Client], id: Option<u64>| clients.iter().any(|client| Some(client.id) == id && client.stdin);
        let Some(session) = self.sessions.iter_mut().find(|session| session.key == key) else { return };
        let open_stdin = if key == INIT { init_stdin } else { requester_stdin(&self.clients, session.requester) };
        if let Err(error) = session.accept_console(&dir, open_stdin) {
            // The runtime notices the same and its failure is what the user hears.
            note(&format!("no terminal: {error}"));
        }
    }

    /// Reads one chunk of an output and hands it on; false when there is nothing now.
    pub(super) fn forward(&mut self, key: u64, at: usize) -> bool {
        let Some(session) = self.sessions.iter_mut().find(|session| session.key == key) else { return false };
        let Some(output) = session.outputs.get(at) else { return false };
        let stream = output.stream;
        let length = match rustix::io::read(&output.fd, &mut self.buffer[..]) {
            Ok(0) => {
                session.outputs.remove(at);
                return false;
            }
            Ok(length) => length,
            Err(Errno::AGAIN | Errno::INTR) => return false,
            Err(_) => {
                // EIO: the terminal's last other end was closed.
                session.outputs.remove(at);
                return false;
            }
        };
        let bytes = &self.buffer[..length];
        session.capture(bytes);
        if stream == Stream::Stderr || session.terminal {
            let room = STDERR_HEAD.saturating_sub(session.stderr_head.len());
            session.stderr_head.extend_from_slice(&bytes[..length.min(room)]);
        }
        let wanted = |client: &&mut Client| {
            let stream = if stream == Stream::Stdout { client.stdout } else { client.stderr };
            client.session == Some(key) && stream && !client.closing
        };
        let mut message: Option<Rc<[u8]>> = None;
        for client in self.clients.iter_mut().filter(wanted) {
            let kind = if stream == Stream::Stdout { FrameType::Stdout } else { FrameType::Stderr };
            let message = message.get_or_insert_with(|| frame(kind, bytes).into());
            client.push(message);
            client.flush();
            if !client.foreground && client.lag() > MAX_LAG {
                client.drop_queue();
                let why = Error::Shim(format!("dropped: more than {MAX_LAG} bytes behind the container's output"));
                client.push(&json_frame(FrameType::Failed, &Failure::from(&why)).into());
                client.closing = true;
            }
        }
        if let (INIT, Some(log)) = (key, &mut self.log) {
            log.write(stream, bytes);
        }
        true
    }

    /// What an ended exec session's descendants still write goes nowhere.
    pub(super) fn discard(&mut self, key: u64) {
        let Some(session) = self.sessions.iter_mut().find(|session| session.key == key) else { return };
        let buffer = &mut self.buffer;
        session.outputs.retain(|output| {
            matches!(rustix::io::read(&output.fd, &mut buffer[..]), Ok(1..) | Err(Errno::AGAIN | Errno::INTR))
        });
    }

    /// Everything that the process wrote before it ended.
    pub(super) fn drain(&mut self, key: u64) {
        let mut taken = 0;
        for at in (0..2).rev() {
            while taken < MAX_LEFTOVER && self.forward(key, at) {
                taken += CHUNK;
            }
        }
    }

    pub(super) fn take_stdin(&mut self, id: u64, joined: Option<u64>, bytes: &[u8]) -> Result<(), Error> {
        let Some(client) = self.client(id).filter(|client| client.stdin) else {
            return Err(Error::Invalid("this client did not ask to send input".into()));
        };
        if client.stdin_pending + bytes.len() > STDIN_WINDOW {
            return Err(Error::Invalid("more input than the window allows".into()));
        }
        client.stdin_pending += bytes.len();
        let waiting = (id, bytes.to_vec(), 0);
        match joined.and_then(|key| self.session(key)) {
            Some(session) if session.terminal && session.is_starting() && session.stdin.is_none() => {
                session.early_input.push_back(waiting);
            }
            Some(Session { key, stdin: Some(stdin), .. }) if !stdin.ending => {
                stdin.pending.push_back(waiting);
                let key = *key;
                self.feed(key, PollFlags::OUT);
            }
            // The program has no stdin any more: as with a closed pipe the bytes go nowhere.
            _ => self.taken(id, bytes.len()),
        }
        Ok(())
    }

    /// Gives the program of its input what it takes.
    pub(super) fn feed(&mut self, key: u64, flags: PollFlags) {
        let Some(session) = self.session(key) else { return };
        let starting = session.is_starting();
        let Some(stdin) = &mut session.stdin else { return };
        let mut taken: Vec<(u64, usize)> = Vec::new();
        let mut broken = flags.contains(PollFlags::ERR) && !starting;
        while let (false, Some((client, bytes, offset))) = (broken, stdin.pending.front_mut()) {
            match rustix::io::write(&stdin.fd, &bytes[*offset..]) {
                Ok(length) => {
                    *offset += length;
                    taken.push((*client, length));
                    if *offset == bytes.len() {
                        stdin.pending.pop_front();
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                // Nobody will read it: the program has closed its stdin.
                Err(_) => broken = true,
            }
        }
        if broken {
            taken.extend(stdin.pending.drain(..).map(|(client, bytes, offset)| (client, bytes.len() - offset)));
        }
        if broken || (stdin.ending && stdin.pending.is_empty()) {
            session.stdin = None;
        }
        for (client, length) in taken {
            self.taken(client, length);
        }
    }

    pub(super) fn taken(&mut self, id: u64, length: usize) {
        if let Some(client) = self.client(id) {
            client.stdin_pending -= length;
        }
        if length > 0 {
            self.send(id, frame(FrameType::StdinTaken, &(length as u32).to_be_bytes()));
        }
    }

    /// A client has no more input, or is gone.
    pub(super) fn end_stdin_of(&mut self, id: u64) {
        let Some(client) = self.client(id).filter(|client| client.stdin) else { return };
        client.stdin = false;
        let Some(key) = client.session else { return };
        let Some(session) = self.session(key) else { return };
        // A terminal has no end of input but the one that is typed.
        if session.stdin_once && !session.terminal {
            if let Some(stdin) = &mut session.stdin {
                stdin.ending = true;
            }
            self.feed(key, PollFlags::OUT);
        }
    }
}
