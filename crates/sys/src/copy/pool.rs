//! A few threads that take work from one stack, to which the work itself adds more.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Work that waits. The last that came is taken first: a directory's own entries are done before its neighbours are
/// opened, which keeps both memory and open files few.
pub(super) struct Stack<Item, Error> {
    state: Mutex<State<Item, Error>>,
    changed: Condvar,
}

struct State<Item, Error> {
    waiting: Vec<Item>,
    at_work: usize,
    error: Option<Error>,
}

impl<Item, Error> Stack<Item, Error> {
    /// Adds work.
    pub(super) fn push(&self, items: impl IntoIterator<Item = Item>) {
        self.lock().waiting.extend(items);
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State<Item, Error>> {
        // A panic of another thread is passed on when the scope ends; until then the list itself is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next item; None once everything is done or something failed.
    fn take(&self) -> Option<Item> {
        let mut state = self.lock();
        loop {
            if state.error.is_some() {
                return None;
            }
            if let Some(item) = state.waiting.pop() {
                state.at_work += 1;
                return Some(item);
            }
            if state.at_work == 0 {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn done(&self, result: Result<(), Error>) {
        let mut state = self.lock();
        state.at_work -= 1;
        if let Err(error) = result {
            state.error.get_or_insert(error);
        }
        let over = state.error.is_some() || (state.at_work == 0 && state.waiting.is_empty());
        drop(state);
        if over {
            self.changed.notify_all();
        }
    }

    fn work(&self, run: &(impl Fn(Item, &Self) -> Result<(), Error> + Sync)) {
        while let Some(item) = self.take() {
            // Counts the item as done also when `run` panics, so that the others don't wait for it forever.
            let finish = Finish { stack: self, result: Some(Ok(())) };
            let result = run(item, self);
            finish.with(result);
        }
    }
}

struct Finish<'a, Item, Error> {
    stack: &'a Stack<Item, Error>,
    result: Option<Result<(), Error>>,
}

impl<Item, Error> Finish<'_, Item, Error> {
    fn with(mut self, result: Result<(), Error>) {
        self.result = Some(result);
    }
}

impl<Item, Error> Drop for Finish<'_, Item, Error> {
    fn drop(&mut self) {
        if let Some(result) = self.result.take() {
            self.stack.done(result);
        }
    }
}

/// Does `first` and all work that it pushes; the first error ends it, after what is at work has returned.
pub(super) fn run<Item: Send, Error: Send>(
    first: Item,
    run: impl Fn(Item, &Stack<Item, Error>) -> Result<(), Error> + Sync,
) -> Result<(), Error> {
    let stack =
        Stack { state: Mutex::new(State { waiting: vec![first], at_work: 0, error: None }), changed: Condvar::new() };
    // Most trees are a handful of files: the first item is done before a thread is made, and often that was all.
    if let Some(item) = stack.take() {
        stack.done(run(item, &stack));
    }
    let more = stack.lock().waiting.len();
    let threads = std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 8).min(more);
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(|| stack.work(&run));
        }
        stack.work(&run);
    });
    match stack.state.into_inner().unwrap_or_else(PoisonError::into_inner).error {
        Some(error) => Err(error),
        None => Ok(()),
    }
}
