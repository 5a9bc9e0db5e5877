"""Texts to begin with, written for the lessons: pairs that follow each other, pairs to compare, passages."""

# Two sentences that follow each other; for a pair that does not, two of these are mixed.
NEXT_SENTENCES = [
    ("It began to rain just as we left the house.", "We ran back inside to fetch an umbrella."),
    ("The baker opened the oven door.", "The smell of fresh bread filled the whole street."),
    ("Marie Curie was born in Warsaw in 1867.", "She later moved to Paris to study physics."),
    ("The last train left at midnight.", "Those who missed it had to wait until morning."),
    ("A spider hangs its web between two branches.", "Insects that fly into it stick to the threads."),
    ("The old bridge was closed in winter.", "Engineers had found cracks in two of its arches."),
    ("He put the seeds into the soil and watered them.", "After a week the first green leaves appeared."),
    ("The team trained hard all summer.", "In autumn they won the first game of the season."),
    ("Mercury is the planet closest to the Sun.", "A year there lasts only 88 days."),
    ("My grandmother never learned to swim.", "She was afraid of deep water all her life."),
    ("The orchestra tuned its instruments.", "Then the conductor raised her hands and the music began."),
    ("Someone knocked at the door three times.", "I got up and looked through the window first."),
    ("The river rose by two metres during the night.", "Many families had to leave their homes."),
    ("She lost her keys on the way to work.", "A neighbour found them in the snow."),
    ("Whales are mammals, not fish.", "They breathe air and feed their young with milk."),
    ("The library bought two hundred new books.", "Most of them were novels for children."),
    ("The dog heard a noise in the garden.", "It barked until everybody was awake."),
    ("The king had no children.", "After his death his nephew took the throne."),
    ("Tea plants grow best in warm and wet places.", "The leaves are picked by hand several times a year."),
    ("Our car broke down on the motorway.", "We called a mechanic and waited for an hour."),
    ("The volcano had been quiet for centuries.", "When it woke up, ash covered the villages below."),
    ("The teacher wrote a number on the board.", "She asked the class to divide it by seven."),
    ("He ordered soup and a glass of water.", "The waiter brought both within five minutes."),
    ("The lighthouse stands on a rocky island.", "Its lamp can be seen from thirty kilometres away."),
]

# (premise, hypothesis)
SENTENCE_PAIRS = [
    ("A woman is playing the guitar on a stage.", "A woman is making music."),
    ("A woman is playing the guitar on a stage.", "A woman is sleeping in her bed."),
    ("A woman is playing the guitar on a stage.", "The woman is famous."),
    ("Two children are running through a field.", "Two children are outside."),
    ("Two children are running through a field.", "The children are sitting still."),
    ("All the shops in the village are closed on Sunday.", "The bakery in the village is open on Sunday."),
    ("The man drank a cup of coffee before work.", "The man drank something before work."),
    ("The man drank a cup of coffee before work.", "The man did not drink anything before work."),
    ("Some of the apples are red.", "All of the apples are red."),
    ("A black dog is chasing a white cat.", "A white cat is chasing a black dog."),
]

_MARKET = (
    "The market in the old town opens at six on Monday and closes at noon. "
    "The market at the harbour opens at eight on Tuesday and closes at four. "
    "Anna sells flowers in the old town, and her brother Paul sells fish at the harbour."
)
_BEES = (
    "A honey bee colony may hold fifty thousand bees in summer. Nearly all of them are workers, which are "
    "female; a single queen lays all the eggs. When a worker has found a rich patch of flowers, she returns "
    "to the hive and dances on the comb. The angle of her dance shows the direction of the flowers, and its "
    "length shows how far away they are. The Austrian scientist Karl von Frisch worked out the meaning of "
    "the dance and received a Nobel Prize in 1973."
)
_APOLLO = """\
Apollo 11 was the space flight that first landed humans on the Moon. It was launched by a Saturn V rocket \
from the Kennedy Space Center in Florida on 16 July 1969. On board were three American astronauts: Neil \
Armstrong, the commander, Michael Collins, who flew the command module Columbia, and Buzz Aldrin, who \
flew with Armstrong in the lunar module Eagle.

The spacecraft had three parts. The command module had a cabin for the crew and was the only part that \
returned to Earth. The service module supplied the command module with power, oxygen, water and a large \
engine. The lunar module had two stages: one for landing on the Moon, and one to bring the astronauts \
back into orbit.

After three days the crew reached the orbit of the Moon. On 20 July Armstrong and Aldrin climbed into \
Eagle and separated from Columbia, while Collins stayed behind, alone. During the descent the computer of \
the lunar module gave several alarms, because it had more to do than it could finish in time. Engineers \
in Houston decided that it was safe to go on. Armstrong saw that they were heading for a field of \
boulders, so he took over the controls and flew further until he found a smooth place. When the engine \
stopped, there was little fuel left. Armstrong reported to Earth: the Eagle has landed. The place was in \
the Sea of Tranquility, a plain of dark lava.

About six hours later Armstrong stepped down the ladder. A television camera on the lunar module sent \
pictures of his first step to Earth, where hundreds of millions of people were watching. Aldrin followed \
him about twenty minutes later. He described the view as magnificent desolation. The two men set up a \
flag, talked with President Nixon by radio, and put out scientific instruments. One of them measured \
moonquakes. Another was a mirror that sends laser light straight back to Earth: with its help the \
distance to the Moon is still measured today. They collected about 21 kilograms of rock and soil.

Armstrong and Aldrin spent about two and a half hours outside. Collins meanwhile circled the Moon in \
Columbia. On each round he passed behind the Moon and lost all contact with Earth for 48 minutes. He \
wrote later that he was not lonely there; he felt part of what was taking place on the surface.

On 21 July the upper stage of Eagle lifted off from the Moon and met Columbia in orbit. Columbia splashed \
down in the Pacific Ocean on 24 July, and the aircraft carrier Hornet picked up the crew. Because nobody \
could rule out that there were germs on the Moon, the three men had to stay in quarantine for three weeks \
after they had left the Moon. Then parades were held for them in New York and Chicago. The command module \
is now shown at the National Air and Space Museum in Washington."""

# (passage, question)
PASSAGES = [
    (_MARKET, "When does the market at the harbour open?"),
    (_MARKET, "Who sells fish?"),
    (_BEES, "Who worked out the meaning of the dance?"),
    (_BEES, "How many bees may a colony hold?"),
    (_BEES, "What does honey cost?"),
    (_APOLLO, "Who stayed behind in Columbia?"),
    (_APOLLO, "Why did the computer give alarms?"),
    (_APOLLO, "How much rock and soil did they collect?"),
]
