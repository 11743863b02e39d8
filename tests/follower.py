"""Who follows a training in a test, and stops it."""

from inkwash.training.fit import Stopped


class Follower:
    """Notes what it hears, and stops a training whenever so many steps more are done; None: never."""

    def __init__(self, stop_after=None):
        self.stop_after, self.asked, self.heard = stop_after, 0, []

    def tell(self, event):
        self.heard.append(event)

    def stopped(self):
        self.asked += 1
        if self.stop_after is None or self.asked <= self.stop_after:
            return False
        self.asked = 0
        return True

    def of(self, kind):
        return [event for event in self.heard if isinstance(event, kind)]


def in_parts(train, follower):
    """Trains until it is stopped, and goes on, until it is done; yields after each stop the step."""
    while True:
        try:
            train(follower)
        except Stopped as stop:
            yield stop.step
        else:
            return
