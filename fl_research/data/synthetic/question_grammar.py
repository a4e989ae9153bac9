"""The grammar of generated customer questions: intents with sentences, answers and vague questions.

A sentence has slots `{name}` that are filled with one of `SLOTS[name]`. Every sentence belongs to
one intent only, so that who knows the grammar knows the intent, but for the vague sentences, which
all intents of a group share.
"""

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class Intent:
    """What customers may want.

    Attributes:
      group: The intents of one group share `VAGUE[group]`.
      weight: How frequent it is, against the others.
      sentences: Ways to say it.
      answer: The public answer.
    """

    group: str
    weight: float
    sentences: tuple[str, ...]
    answer: str


SLOTS = {
    "bill": ("bill", "invoice", "monthly statement"),
    "high": ("so high", "higher than usual", "twice as much as before", "far too much"),
    "month": ("this month", "last month", "in March", "since January"),
    "net": ("internet", "broadband", "wifi", "connection"),
    "home": ("at home", "in the flat", "in my office", "upstairs"),
    "time": ("since yesterday", "for two days", "since this morning", "for hours"),
    "phone": ("phone", "mobile", "handset", "smartphone"),
    "country": ("Spain", "Turkey", "the US", "Japan", "Switzerland"),
    "contract": ("contract", "subscription", "plan", "tariff"),
    "order": ("order", "parcel", "package", "delivery"),
    "please": ("please help me", "could you help me", "I need help"),
    "card": ("SIM card", "SIM", "card"),
    "city": ("Leeds", "another city", "a new flat", "the countryside"),
    "pay": ("bank account", "credit card", "direct debit"),
    "router": ("router", "modem", "wifi box"),
}

INTENTS = {
    "bill_too_high": Intent(
        group="bill",
        weight=10,
        sentences=(
            "why is my {bill} {high} {month}",
            "the {bill} is {high}, what did you charge me for",
            "I was charged {high} {month}, can that be right",
            "there are costs on my {bill} that I do not know",
        ),
        answer="Your bill lists every charge under Details. Calls abroad and extra data are the "
        "usual reasons for a higher amount. We take back a charge that is not yours.",
    ),
    "bill_copy": Intent(
        group="bill",
        weight=5,
        sentences=(
            "where can I download my {bill}",
            "send me a copy of the {bill} from {month}",
            "I need the {bill} as a PDF for my tax office",
            "I never received my {bill} by mail {month}",
        ),
        answer="You find all your invoices as a PDF in your account under Documents. We can also "
        "send a copy by mail.",
    ),
    "pay_later": Intent(
        group="bill",
        weight=4,
        sentences=(
            "can I pay my {bill} a few weeks later",
            "I cannot afford the {bill} {month}, are instalments possible",
            "{please}, I got a reminder and need more time to pay",
            "is it possible to delay the payment until my salary comes",
        ),
        answer="You may pay an open amount in up to three instalments. Ask for it before the date "
        "that the reminder names.",
    ),
    "payment_method": Intent(
        group="bill",
        weight=4,
        sentences=(
            "how do I change my {pay} for the payments",
            "I have a new {pay}, where do I enter it",
            "please stop using my old {pay}",
            "can I pay by {pay} instead of transfer",
        ),
        answer="Change how you pay in your account under Payment. A new bank account or card is "
        "used from the next invoice on.",
    ),
    "internet_down": Intent(
        group="internet",
        weight=9,
        sentences=(
            "my {net} does not work {time}",
            "no {net} {home} {time}",
            "the {net} is down, is there an outage in my street",
            "I have been offline {time}, when will it be repaired",
        ),
        answer="Unplug the box for a minute first. If the lamp stays red there is an outage: the "
        "map of outages shows when the line will be repaired.",
    ),
    "internet_slow": Intent(
        group="internet",
        weight=7,
        sentences=(
            "the {net} is very slow {home}",
            "I only get a tenth of the speed that I pay for",
            "films keep buffering {time}, the {net} is too slow",
            "why is my download speed so low in the evening",
        ),
        answer="Measure the speed with a cable first. If it is below what your plan promises, we "
        "send a technician or lower the price.",
    ),
    "router_setup": Intent(
        group="internet",
        weight=4,
        sentences=(
            "how do I set up the new {router}",
            "what is the password of my {router}",
            "which cable goes where on the {router}",
            "the {router} arrived, how do I connect it",
        ),
        answer="Plug the box into the first socket and wait for the white lamp. Name and password "
        "of the network are on the sticker below it.",
    ),
    "roaming": Intent(
        group="mobile",
        weight=5,
        sentences=(
            "what does it cost to use my {phone} in {country}",
            "I am travelling to {country}, does roaming work there",
            "can I call home from {country} with my {contract}",
            "how do I switch on roaming for my trip to {country}",
        ),
        answer="Roaming inside Europe is included. For other countries book a travel pass in the "
        "app before you leave.",
    ),
    "sim_blocked": Intent(
        group="mobile",
        weight=4,
        sentences=(
            "my {card} is blocked, I entered the wrong pin",
            "I need the puk for my {card}",
            "how can I unlock my {card}",
            "someone stole my {phone}, please block the {card}",
        ),
        answer="The PUK to unlock a SIM is in your account under Mobile. A lost SIM can be blocked "
        "there too, at any hour.",
    ),
    "data_used_up": Intent(
        group="mobile",
        weight=5,
        sentences=(
            "my mobile data is used up already",
            "how much data volume do I have left {month}",
            "can I buy more gigabytes for my {phone}",
            "I ran out of data, how do I get another pack",
        ),
        answer="The app shows how much data is left. You can add a data pack there; it holds until "
        "the end of the month.",
    ),
    "cancel": Intent(
        group="contract",
        weight=6,
        sentences=(
            "I want to cancel my {contract}",
            "how can I end my {contract}, and by when",
            "please confirm that I am leaving you",
            "what is the notice period of my {contract}",
        ),
        answer="You may give notice in your account, at the earliest for the end of the minimum "
        "term. We confirm it the same day.",
    ),
    "change_plan": Intent(
        group="contract",
        weight=6,
        sentences=(
            "I would like a larger {contract}",
            "can I switch to a cheaper {contract}",
            "which {contract} fits a family with two kids",
            "is there a {contract} with more minutes",
        ),
        answer="You may change to a larger plan at once, and to a smaller one at the end of the "
        "month. The app compares all of them.",
    ),
    "moving": Intent(
        group="contract",
        weight=4,
        sentences=(
            "I am moving to {city}, what happens to my {contract}",
            "we are moving house {month}, can we take the {net} with us",
            "please change my address, I moved to {city}",
            "is your {net} available at my new address in {city}",
        ),
        answer="Tell us the new address four weeks ahead. If we cannot deliver there, your "
        "contract ends with the move.",
    ),
    "order_status": Intent(
        group="order",
        weight=6,
        sentences=(
            "where is my {order}",
            "my {phone} was supposed to arrive {time}, where is it",
            "can I track my {order}",
            "the {order} has not come yet",
        ),
        answer="The message about your order has a link to follow the parcel. Most arrive within "
        "three working days.",
    ),
    "return_device": Intent(
        group="order",
        weight=4,
        sentences=(
            "I want to send the {phone} back",
            "how do I return the {router} that I ordered",
            "do I get my money back for the {phone} if I do not like it",
            "please give me a label to return my {order}",
        ),
        answer="You may return a device within 14 days. Print the label in your account under "
        "Orders; the money comes back within a week.",
    ),
    "device_broken": Intent(
        group="order",
        weight=4,
        sentences=(
            "the screen of my new {phone} is broken",
            "my {phone} does not switch on any more",
            "is a cracked display covered by the warranty",
            "the battery of the {phone} is empty after an hour",
        ),
        answer="Faults within two years are covered by the warranty. Bring the device to a shop, "
        "or order a box to send it in for repair.",
    ),
}

VAGUE = {
    "bill": ("I have a question about my {bill}", "something is wrong with my payments"),
    "internet": ("there is a problem with my {net}", "{please} with the {net} {home}"),
    "mobile": ("{please} with my {card}", "I have trouble with my mobile number"),
    "contract": ("it is about my {contract}", "I have a question on my {contract}"),
    "order": ("it is about the {phone} that I ordered", "there is something with my {order}"),
}

OPENINGS = ("", "", "", "hi, ", "hello, ", "good morning, ", "hey there, ", "dear team, ")
ENDINGS = ("", "", "?", "?", ".", "!", " thanks", ", thank you!", "??")

FOREIGN = (
    "what will the weather be like tomorrow",
    "do you know a good recipe for lasagne",
    "who won the football match on Sunday",
    "how many eggs belong in a pancake",
    "tell me a joke about cats",
    "what is the capital of Australia",
    "my dog does not eat, should I see a vet",
    "can you recommend a book about the Romans",
    "how do I get to the station from the museum",
    "what is the square root of 144",
    "is the pharmacy open on Sundays",
    "which trees keep their leaves in winter",
    "do I need a visa for my holidays",
    "who wrote the opera Carmen",
    "how do I remove red wine from a carpet",
    "when does the next train to Oxford leave",
    "I am looking for a flat with a garden",
    "my back hurts when I sit, what helps",
    "how tall is the Eiffel tower",
    "which wine goes with fish",
    "can you write a poem for my grandmother",
    "how do I prune an apple tree",
    "what does the museum ticket cost",
    "is it going to rain at the weekend",
)
