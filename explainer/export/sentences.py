"""Sentences that a program is checked on, of different lengths: plain English, for a classifier of any subject."""

_LONG = (
    "We arrived late in the evening , and although nobody at the desk could find our names at first , the manager "
    "apologised , gave us a quiet room with a view over the harbour , and sent up bread , cheese and fruit ."
)
SENTENCES = [
    "The plot is thin , but the acting is wonderful .",
    "No .",
    "I would not recommend this phone to anyone : the battery dies within an hour .",
    "Shares of the company rose by four percent after the report .",
    "The striker scored twice in the last ten minutes , and the crowd went wild .",
    "What a waste of time !",
    "She was so happy that she could not sleep .",
    "Researchers found a new method to store energy from wind and sunlight at a low price .",
    "It is not the worst film of the year , nor is it one that you will remember .",
    "Please send it back .",
    "The soup was cold , the waiter was rude , and still we laughed all night .",
    _LONG,
]
