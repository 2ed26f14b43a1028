"""Prompt templates and the fillings of their blanks, for training and for measuring.

No template of `HELD_OUT` is in `TRAINING`. A blank with held-out fillings shares none of them with its training fillings.
"""

from __future__ import annotations

from collections.abc import Mapping

from spec_decode_ros.actions.commands import split_templates

TRAINING: tuple[str, ...] = (
    # a robot and its operator
    "You are a four-legged robot in {room}. The operator says: go to the {colour} {object}. What do you do first?",
    "How should a walking robot cross {ground}?",
    "My robot dog stopped in {room} and does not move any more. What should I check?",
    "Write a short safety rule for people who work beside a robot in {room}.",
    "Describe to the operator what a robot sees: a {colour} {object} on the left and a {colour2} {object2} ahead.",
    "The battery of my robot is at {n} percent. Should it continue with the inspection of {room}?",
    "Explain how a robot uses {sensor} to find its way.",
    "A robot must carry a {object} from {room} to {room2}. List the steps.",
    "Write a status report of a robot that inspected {room} and found a {colour} {object}.",
    "What can go wrong when a robot climbs stairs with a {object}?",
    "Why would a robot lose its connection in {room}, and what should it do then?",
    "Give {few} commands that an operator could say to a robot in {room}.",
    "Tell me in two sentences what {sensor} is good for.",
    "A person stands in front of the robot in {room}. How should the robot behave?",
    # explaining
    "Explain {topic} to a child.",
    "Explain {topic} in simple words.",
    "What is {topic}?",
    "How does {topic} work?",
    "Why is {topic} important?",
    "What are the advantages and disadvantages of {topic}?",
    "Give me a short introduction to {topic}.",
    "Describe the history of {topic} in a few sentences.",
    "What is the difference between {topic} and {topic2}?",
    "Compare {thing} and {thing2}.",
    "Who uses {topic}, and what for?",
    "What would happen without {topic}?",
    "Can you tell me something surprising about {animal}?",
    "What do {animal} eat and where do they live?",
    "How do {animal} take care of their young?",
    # lists
    "List {few} facts about {animal}.",
    "List {few} things to pack for a trip to {place}.",
    "Give me {few} ideas for a birthday party with the theme {topic}.",
    "Name {few} reasons to visit {place}.",
    "Give me {few} tips for {activity}.",
    "What are {few} common mistakes in {activity}?",
    "Make a checklist for {activity}.",
    "Suggest {few} names for a company that sells {thing}.",
    "List the main parts of a {machine}.",
    "What are the most important skills of a {job}?",
    "Give {few} examples of {topic} in everyday life.",
    "Make a shopping list for {food}.",
    # instructions
    "How do I make {food}?",
    "Give me step by step instructions for {activity}.",
    "How can I get better at {activity}?",
    "Write a recipe for {food} for {n} people.",
    "How do I repair a {machine}?",
    "How do I clean a {machine}?",
    "Teach me the basics of {activity}.",
    "I have never tried {activity}. Where do I start?",
    "Plan a day in {place} for a family.",
    "Make a weekly plan for {activity}.",
    # writing
    "Write a short story about a {job} and a {object}.",
    "Write a short story about {animal} in {place}.",
    "Write a poem about {place}.",
    "Write a poem about {topic}.",
    "Write a letter to a {job} asking about {topic}.",
    "Write an e-mail to my colleague about {topic}.",
    "Write an e-mail in which I invite my neighbours to {place}.",
    "Write a product description of a {colour} {machine}.",
    "Write an advertisement for {thing}.",
    "Write a paragraph about a morning in {place}.",
    "Write the first paragraph of a novel that begins in {place}.",
    "Describe a {machine} to someone who has never seen one.",
    "Write a speech of a {job} about {topic}.",
    "Write a riddle about a {object}.",
    "Write a diary entry of a {job}.",
    "Write a review of a restaurant that serves {food}.",
    # dialogue
    "Write a dialogue between a {job} and a customer about a {machine}.",
    "Write a conversation between two friends about {topic}.",
    "Hello! My name is {name}. I work as a {job}. What can you do for me?",
    "I feel tired after {activity}. What should I do?",
    "Can you help me with {activity}?",
    "My friend {name} wants to become a {job}. What do you advise?",
    "I am {name} and I am bored. What could I do in {place}?",
    "Act as a {job} and answer: how much does a {machine} cost?",
    "Should I learn {activity} or {activity2}?",
    # rewriting and reading
    "Summarise this text: {passage}",
    "Write a headline for this text: {passage}",
    "Answer the question. Text: {passage} Question: what happened first?",
    "Rewrite this sentence more politely: bring the {object} to {room} now.",
    "Rewrite in simpler words: {passage}",
    "Make this sentence longer: the {job} bought a {colour} {machine}.",
    "Correct the mistakes: {name} have two {object}s and he go to {place} every days.",
    "Is this review positive or negative? The {food} was cold and the waiter was rude.",
    "Extract the names and places: {name} met {name2} in {place} and they talked about {topic}.",
    # numbers
    "What is {a} plus {b}?",
    "What is {a} times {few}?",
    "{name} has {a} apples and gives {few} to {name2}. How many are left?",
    "A robot walks {n} metres a minute. How far does it get in {few} minutes? Explain the steps.",
    "Convert {n} kilometres to metres.",
    "Which is larger, {a} or {b}?",
    "Count from {few} to {n}.",
    # code
    "Write a Python function that {task}.",
    "Write a Python function that {task}. Add comments.",
    "Explain what a {concept} is in Python.",
    "Give an example of a {concept} in Python.",
    "How do I read a {file} file in Python?",
    "Write a shell command that {shell}.",
    "What is the difference between a {concept} and a {concept2} in programming?",
    "My Python program fails with {error}. What does it mean?",
)

HELD_OUT: tuple[str, ...] = (
    "A legged robot should patrol {room} at night. Tell its operator how to prepare it.",
    "The robot reports that {sensor} does not answer. Give the operator advice.",
    "Which {object} should the robot fetch if the operator only says: bring me the {colour} one?",
    "Name the dangers for a walking robot in {room}.",
    "As a robot, apologise to the operator for having dropped a {object} in {room}.",
    "I would like to understand {topic}. Begin with the basics.",
    "Why do people care so much about {topic}?",
    "In which ways has {topic} changed our lives?",
    "What do beginners get wrong about {topic}?",
    "What makes {animal} so special?",
    "Tell me about the life of {animal}.",
    "I need {few} good arguments in favour of {topic}.",
    "Recommend {few} activities for tourists who like {place}.",
    "What does a {job} do all day?",
    "Which tools does a {job} need, and for what?",
    "How can I prepare {food} without an oven?",
    "Walk me through {activity}, one step after the other.",
    "What equipment do I need for {activity}?",
    "Help me plan a weekend in {place}.",
    "Tell a tale in which {animal} save {place}.",
    "Write a thank-you note to a {job}.",
    "Draft a notice to all employees about {topic}.",
    "Imagine a world without a {machine}. Describe it.",
    "Invent a dialogue in which {name} buys a {machine} from {name2}.",
    "Good morning! Could you tell me what {topic} means?",
    "I am nervous about {activity} tomorrow. Any advice?",
    "Give a short summary of the following report. {passage}",
    "What is the main idea here? {passage}",
    "Turn this into a list: {passage}",
    "If one {machine} costs {a} dollars, what do {few} of them cost?",
    "{name} is {n} years old, {name2} is {few} years younger. How old is {name2}?",
    "Show me Python code that {task}.",
    "When would I use a {concept} in my program?",
    "Write a small test for a Python function that {task}.",
)


def _fillings(texts: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """The fillings of each blank, from texts that separate them by semicolons or line ends."""
    return {blank: split_templates(text) for blank, text in texts.items()}


FILLINGS = _fillings(
    {
        "room": """the kitchen; a warehouse; the garage; an office; a laboratory; the corridor; a hospital
        the cellar; a greenhouse; a factory hall; the workshop; a car park; the entrance hall
        a construction site; a library""",
        "colour": "red; blue; green; yellow; white; black; orange; grey",
        "object": """box; chair; ball; cone; bag; bottle; book; bucket; lamp; table; key; suitcase; hammer
        umbrella; clock; mirror""",
        "ground": "wet grass; a gravel path; snow; sand; a steep ramp; loose stones; a carpet; mud",
        "sensor": """a camera; a lidar; an inertial sensor; a microphone; ultrasound; GPS; a depth camera
        a touch sensor; wheel odometry""",
        "topic": """photosynthesis; gravity; electricity; the internet; machine learning; climate change
        democracy; inflation; recycling; solar energy; vaccination; the water cycle; evolution; music theory
        the stock market; public transport; a healthy diet; encryption; magnetism; volcanoes; black holes
        the Roman Empire; the printing press; antibiotics; wind turbines; chess; artificial intelligence
        robots in hospitals; time management; friendship; sleep; earthquakes; the human heart; batteries
        agriculture; space travel; architecture; open-source software; teamwork; noise; rainbows
        the seasons; money; advertising; fermentation; renewable energy; neural networks; databases
        the moon; tides""",
        "thing": """bicycles; electric cars; trains; paper books; e-books; laptops; tablets; coffee; tea
        wooden toys; running shoes; solar panels; umbrellas; garden tools; headphones""",
        "animal": """elephants; penguins; honey bees; dolphins; owls; wolves; sea turtles; ants; octopuses
        cats; dogs; bats; horses; whales; foxes; frogs; spiders; bears""",
        "place": """Paris; the mountains; a small village; Japan; the beach; the desert; New York; a forest
        Rome; an island; the city park; Egypt; a lake; London; a farm; Brazil; the zoo""",
        "activity": """swimming; painting a wall; learning a language; cooking; playing the guitar
        gardening; public speaking; running a marathon; photography; writing a book; saving money; camping
        moving to a new flat; studying for an exam; changing a tyre; building a website; yoga; knitting
        hiking; job interviews; growing tomatoes; baking bread; drawing faces""",
        "food": """pancakes; tomato soup; an apple pie; fried rice; pasta with cheese; a salad; pizza
        chocolate cake; vegetable curry; an omelette; potato soup; banana bread; tacos; noodles""",
        "machine": """bicycle; washing machine; coffee machine; drone; laptop; car; robot; printer; fridge
        telescope; clock; wind turbine; lawn mower; camera; phone""",
        "job": """teacher; nurse; farmer; pilot; cook; carpenter; programmer; doctor; police officer
        librarian; mechanic; gardener; journalist; scientist; bus driver; robot operator""",
        "name": "Anna; Ben; Clara; David; Emma; Felix; Grace; Henry; Ida; James; Lena; Omar",
        "few": "three; four; five; six; seven; 3; 4; 5; 6; 10",
        "n": "5; 8; 10; 12; 15; 20; 25; 30; 40; 50",
        "a": "14; 23; 37; 48; 56; 75; 81; 99; 120; 145; 230; 512",
        "b": "6; 9; 17; 28; 39; 44; 63; 87; 105; 150; 311; 640",
        "task": """adds two numbers; reverses a string; counts the vowels in a word
        finds the largest number in a list; checks whether a number is prime; sorts a list of names
        computes the factorial of a number; reads a file and counts its lines
        removes duplicates from a list; converts Celsius to Fahrenheit
        checks whether a word is a palindrome; computes the average of a list; merges two dictionaries
        prints the first ten Fibonacci numbers; counts how often each word occurs
        finds the distance between two points; limits a speed to a maximum; rounds a number to two digits""",
        "concept": """list; dictionary; loop; function; class; tuple; set; variable; module; generator
        decorator; lambda; string; recursion; exception""",
        "file": "text; CSV; JSON; YAML; binary; log; ZIP",
        "shell": """lists all files in a folder; counts the lines of a file; finds large files
        shows the free disk space; copies a folder; deletes empty folders; searches for a word in all files
        shows running processes""",
        "error": "an IndexError; a KeyError; a TypeError; a SyntaxError; an ImportError; a ValueError",
        "opening": """On Monday the robot began its round at eight in the morning.
        The town council met on Thursday evening.
        A storm reached the coast in the early hours.
        The new library opened its doors last week.
        Scientists tested a small walking machine in the desert.
        The bakery at the corner has changed its owner.
        Our team repaired the old bridge in the spring.
        The school bought twenty new computers.""",
        "middle": """It checked the doors, read two gauges and found a leaking pipe.
        Many people came, asked questions and stayed longer than planned.
        Several trees fell and a road had to be closed for some hours.
        The first results were good, although the batteries lasted only half as long as expected.
        Everybody helped to carry boxes, and the work was finished before noon.
        Prices went up a little, but the customers did not mind.
        At first nobody noticed the problem with the lights.""",
        "ending": """Nobody was hurt, and everything was back to normal by the evening.
        The next test is planned for the coming month.
        The manager thanked the workers and promised a better plan.
        In the end the repair cost less than a new one would have.
        The decision will be announced next week.
        The visitors went home tired and happy.""",
    }
)

HELD_OUT_FILLINGS = _fillings(
    {
        "room": "a power station; the loading dock; a museum; an underground tunnel; the canteen",
        "topic": """nuclear power; glaciers; online shopping; the immune system; bridges; satellites; voting
        plastic waste; remote work; coral reefs; statistics; speech recognition; tourism; insurance""",
        "animal": "giraffes; squirrels; sharks; eagles; beavers; camels; hedgehogs; parrots",
        "place": "Berlin; the harbour; Iceland; a castle; India; the old town; a river valley",
        "activity": """sailing; assembling a shelf; meditation; learning the piano; rock climbing
        making candles; giving a presentation; fishing; repairing a bicycle""",
        "food": "lentil stew; blueberry muffins; mushroom risotto; a cheese sandwich; fruit salad",
        "machine": "sewing machine; tractor; vacuum cleaner; 3D printer; lift; dishwasher",
        "job": "dentist; firefighter; translator; architect; baker; electrician; surveyor",
        "name": "Paul; Rita; Samuel; Tara; Victor; Zoe",
        "task": """finds the second largest number in a list; counts the digits in a text
        multiplies two matrices; checks whether a year is a leap year
        swaps the keys and values of a dictionary; splits a list into two halves
        finds the longest word in a sentence""",
        "concept": "stack; queue; thread; constant; comprehension; context manager",
        "opening": """The ferry left the harbour with an hour's delay.
        Two students built a weather station on the roof.
        An inspection robot was sent into the tunnel on Friday.
        The museum shows old maps until the end of June.""",
        "middle": """The crew had to replace a broken pump before the engine could be started again.
        It sent pictures of every room, and one of them showed water on the floor.
        More than three hundred visitors came on the first day alone.
        Their measurements agreed with those of the airport within half a degree.""",
        "ending": """A full report will follow in two weeks.
        The passengers got their money back.
        Next year they want to build a larger one.""",
    }
)
